"""What runs in the car: numpy, OpenCV and one runtime."""
