"""The log: sentences on stderr, without secrets. Results go to stdout.

INFO is the default, `-v` adds DEBUG, `--quiet` leaves ERROR and CRITICAL. CRITICAL is the sentence that a command ends
with; programs read it, so it never carries a time.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from datetime import datetime

from core.redact import public_text

OURS = ("core", "inference", "models", "training", "export", "benchmarks", "__main__")
"""Our packages; libraries log their errors alone."""


class PublicFormatter(logging.Formatter):
    """Removes secrets from a record, tracebacks included; adds the time where `times` is set."""

    times = False

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        text = public_text(super().format(record))
        if record.levelno == logging.WARNING:
            text = f"warning: {text}"
        if self.times and record.levelno < logging.CRITICAL:
            text = f"{datetime.fromtimestamp(record.created).isoformat(' ', 'milliseconds')}  {text}"
        return text


class StderrHandler(logging.Handler):
    """Writes to the sys.stderr of the moment: rich replaces it while a progress bar is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A stderr that is missing, closed or full never stops the program."""
        with suppress(AttributeError, OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")


FORMATTER = PublicFormatter()
HANDLER = StderrHandler()
HANDLER.setFormatter(FORMATTER)


def shows_progress() -> bool:
    """Return whether to show a progress bar: stderr is a terminal, and the log is not quiet."""
    return sys.stderr.isatty() and logging.getLogger("core").isEnabledFor(logging.INFO)


def set_up(level: int = logging.INFO, *, times: bool = False) -> None:
    """Send the log to stderr, from `level` up."""
    FORMATTER.times = times
    root = logging.getLogger()
    root.addHandler(HANDLER)  # once: adding it again changes nothing
    root.setLevel(logging.ERROR)  # for the libraries
    for name in OURS:
        logging.getLogger(name).setLevel(level)
