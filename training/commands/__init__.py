"""The commands of training, one module each."""
