"""The ways in which a step computes: precision, memory format, several processes."""
