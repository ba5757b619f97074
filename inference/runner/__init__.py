"""The camera runner: one session, its camera's health, its sinks' threads, its supervisor."""
