"""The code that runs in the car; it needs numpy, OpenCV and one runtime."""
