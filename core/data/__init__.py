"""Readers of packs, run folders and pictures."""
