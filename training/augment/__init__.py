"""Augmentation: its random parameters, and its pixels on the CPU and on a GPU."""
