"""`python -m inference run | verify | build | doctor`: one module of `inference/commands` each."""

from core.cli import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("inference", "inference.commands"))
