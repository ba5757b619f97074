"""Latency, cold start, energy, and behaviour under sustained load."""
