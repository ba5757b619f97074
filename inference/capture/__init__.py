"""How frames are read from cameras, streams and recordings."""
