"""The results of a run, as `measure` makes them: frozen dataclasses, JSON only at the edge."""
