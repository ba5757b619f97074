"""The architectures: one file each, found by its name."""
