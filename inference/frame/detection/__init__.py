"""A detector in front of the classifier: its file, its pictures, its tracks, and the regions that come of them."""
