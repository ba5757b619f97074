"""Packs and their labeled frames, run folders, recordings, and picture files."""
