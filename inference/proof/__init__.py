"""The proof of a bundle: golden frames, the power-on self-test, verify."""
