"""The ways in which a step computes: precision, memory format, CUDA graphs, several processes."""
