"""Code that every stage shares and the device gets too; it needs only numpy and OpenCV."""
