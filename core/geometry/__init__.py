"""Frames, rectangles, the camera's mounting, and the one preprocessing."""
