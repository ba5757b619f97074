"""Reads frames from cameras, streams and recordings."""
