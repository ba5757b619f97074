"""Corruptions and out-of-distribution images."""
