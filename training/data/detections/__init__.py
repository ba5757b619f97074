"""Turning the boxes of a detection data set into crops."""
