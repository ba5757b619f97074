"""What camera sources share: their interface, the reading thread, V4L2 and FFmpeg; and the writer of recordings."""
