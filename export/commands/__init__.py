"""The commands of export, one module each."""
