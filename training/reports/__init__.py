"""What a training writes for people: leaderboard, plots, progress, the machine."""
