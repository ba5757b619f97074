"""The frame step: from a frame and its regions to a decision."""
