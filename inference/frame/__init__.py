"""What is done with one frame, from its regions to its decision."""
