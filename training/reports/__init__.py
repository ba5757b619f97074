"""Reports of a training for people: leaderboard, plots, progress, the machine."""
