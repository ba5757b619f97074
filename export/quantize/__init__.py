"""int8: calibration, equalisation, and the search for a file that holds its gate."""
