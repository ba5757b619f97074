"""`python -m training pack | train | bench | compare`: one module of `training/commands` each."""

from inference.commands import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("training", "training.commands"))
