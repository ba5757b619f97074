"""Bundles in, report and production choice out, measured through the code that runs in the car."""
