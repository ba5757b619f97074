"""Comparisons of recipes over seeds, and their pages."""
