"""The camera runner: a session from start to end, the health of the camera, threads for sinks, and the supervisor."""
