"""Reports of a training: leaderboard, plots, the table of a pack, the machine."""
