"""Packing a data set: importers, splits, decoding, health."""
