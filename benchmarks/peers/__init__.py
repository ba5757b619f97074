"""The same data through the tools that people use today, beside ours: development only, never in the car."""
