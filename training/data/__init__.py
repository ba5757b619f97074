"""From a data set to a pack: importers, splits, decoding, health."""
