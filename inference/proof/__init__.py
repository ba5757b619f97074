"""Proof: a file is proved when the golden frames, run on it by the car's own code, give the stored answers.

The self-test runs every second region of them at power-on, `verify` all of them on every backend. Labeled frames are
scored here too.
"""
