"""`python -m export runs/NAME` exports a run; `python -m export COMMAND` runs another module of `export/commands`."""

from core.cli import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("export", "export.commands", default="bundle"))
