"""What is measured of every candidate."""
