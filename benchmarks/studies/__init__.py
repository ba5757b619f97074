"""Studies for development: none of them is part of a benchmark."""
