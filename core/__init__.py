"""Code that every stage shares and the device gets too; it needs numpy, OpenCV, and waitress to serve a page."""
