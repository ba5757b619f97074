"""What every stage shares and the car carries: numpy and OpenCV only."""
