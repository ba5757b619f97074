"""Accuracy on labeled frames."""
