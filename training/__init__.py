"""Data in, best checkpoint out."""
