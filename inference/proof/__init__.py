"""The proof of a bundle: golden frames, the self-test, verify."""
