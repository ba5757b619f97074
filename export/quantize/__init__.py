"""int8: calibration, equalization, and the search for a file that holds its gate."""
