"""`python -m export runs/NAME` exports; `plan` and `package` are modules of `export/commands` too."""

from inference.commands import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("export", "export.commands", default="bundle"))
