"""How a step computes: precision, memory format, several processes."""
