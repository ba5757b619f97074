"""The way to int8: calibration, equalization, and the search for a file that passes its gate."""
