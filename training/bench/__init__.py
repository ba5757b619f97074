"""How fast training is: data path, step and whole loop."""
