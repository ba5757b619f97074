"""A run: its settings, its record in run.json, the job of each architecture, and the files that it writes."""
