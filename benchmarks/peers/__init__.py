"""Other tools and ours on the same data, for comparison: development only, never in the car."""
