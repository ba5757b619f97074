"""`python -m export runs/NAME` exports; `package` is a module of `export/commands` too."""

from core.cli import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("export", "export.commands", default="bundle"))
