"""Packs and run folders as they are read."""
