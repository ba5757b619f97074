"""`python -m export runs/NAME` exports a run; each other module of `export/commands` is a command by its name."""

from core.cli import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("export", "export.commands", default="bundle"))
