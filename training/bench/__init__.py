"""Benchmarks of training: data path, step and whole loop."""
