"""Accuracy on labeled frames: the frames and regions that are asked for, the score of each frame, their sum."""
