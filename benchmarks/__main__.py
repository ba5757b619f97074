"""`python -m benchmarks runs/NAME` measures, chooses and reports; other verbs are modules of `benchmarks/commands`."""

from core.cli import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("benchmarks", "benchmarks.commands", default="measure"))
