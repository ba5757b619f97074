"""Collects TensorRT's error messages, shows the progress of a build, and ends it when a signal comes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from core.log import shows_progress
from core.signals import is_signal_held

_loggers: dict[str, Any] = {}


def logger(trt: ModuleType) -> Any:
    """Return the one logger of a runtime, emptied: it prints nothing and collects error messages."""
    # the classes below are made in functions: their bases are known only once a runtime is imported
    if trt.__name__ not in _loggers:

        class Kept(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    self.errors.append(message)

        _loggers[trt.__name__] = Kept()
    kept = _loggers[trt.__name__]
    kept.errors.clear()
    return kept


def monitor(trt: ModuleType, what: str) -> Any:
    """Return a progress monitor that shows the innermost phase and its share; it must outlive the build.

    TensorRT calls it from threads of its own: it holds no state but the phases. A signal that came ends the build.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            # another thread may have ended the phase meanwhile
            show(f"{what}: {phase_name}, {step + 1} of {self.steps.get(phase_name, step + 1)}")
            return not is_signal_held()

    return Monitor()


def show(sentence: str) -> None:
    """Show a line of progress on stderr, over the last one; into a file or a pipe nothing."""
    if shows_progress():
        print(f"\r\x1b[K{sentence}", end="", file=sys.stderr, flush=True)
