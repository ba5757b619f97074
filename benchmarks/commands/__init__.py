"""The commands of benchmarks, one module each."""
