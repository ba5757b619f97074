"""Background rows from frames of the user's own camera."""
