"""From boxes of a detection data set to crops."""
