"""The bundle: its contract, its engines' manifests, its golden frames."""
