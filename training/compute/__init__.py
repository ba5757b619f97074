"""The ways a step can compute: precision, memory format, several processes."""
