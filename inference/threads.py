"""How many threads the network gets: probed on this machine after the first decisions, remembered for the next start.

The count that was self-tested at power-on runs until the end: nothing changes under a drive.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from time import perf_counter_ns

import numpy as np

from inference.backends import Backend, find, open_backend
from inference.contract import Bundle
from inference.files import write_json
from inference.process import cores, cpu_model

PROBE_AFTER = 60
"""Frames: the start is over, and what the machine does besides is going on."""
ROUNDS, WARM_UPS = 21, 3
AS_FAST = 1.1
"""The smallest count within a tenth of the fastest is taken: the camera and the sinks want cores too."""
ENTRIES_KEPT = 64


def cache_file() -> Path:
    """Return where this user's machine remembers. Source: XDG base directory specification."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "rearguard" / "threads.json"


def key_of(bundle: Bundle, backend: str, precision: str, batch: int) -> str:
    """Return what a count was probed for: another machine, runtime or model is probed anew."""
    version = find(backend).presence().version
    return f"{cpu_model()} x{cores()} | {backend} {version} | {precision} batch {batch} | {bundle.as_json()['digest']}"


def chosen_here(bundle: Bundle) -> int | None:
    """Return the production choice's count, where it was measured on a machine like this one."""
    choice = bundle.choice or {}
    machine = choice.get("machine") or {}
    same = (machine.get("cpu"), machine.get("cores")) == (cpu_model(), cores())
    threads = choice.get("threads")
    return threads if same and isinstance(threads, int) and threads >= 1 else None


def remembered(key: str) -> int | None:
    """Return the count that was probed; None without one, or with a cache that cannot be read."""
    entry = _read().get(key)
    threads = entry.get("threads") if isinstance(entry, dict) else None
    return threads if isinstance(threads, int) and 1 <= threads <= cores() else None


def remember(key: str, threads: int, medians_ms: dict[int, float]) -> None:
    """Write a count into the cache, whole or not at all; the oldest entries go."""
    entries = {**{k: v for k, v in _read().items() if k != key}, key: {"threads": threads, "p50_ms": medians_ms}}
    write_json(cache_file(), dict(list(entries.items())[-ENTRIES_KEPT:]))


def _read() -> dict[str, object]:
    try:
        body = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def counts(most: int) -> list[int]:
    """Return the counts that are tried: powers of two, and all there are."""
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i < most)})


def fastest(medians_ms: dict[int, float]) -> int:
    """Return the smallest count that is about as fast as the fastest."""
    best = min(medians_ms.values())
    return min(n for n, ms in medians_ms.items() if ms <= AS_FAST * best)


class Probe(Thread):
    """Times the network with each count in turns, beside the drive: under the load that the car has."""

    def __init__(self, bundle: Bundle, backend: str, precision: str, batch: int) -> None:
        super().__init__(name="probe", daemon=True)
        self._bundle, self._backend, self._precision, self._batch = bundle, backend, precision, batch
        self._over = Event()

    def run(self) -> None:
        """Probe, remember, say so."""
        opened: dict[int, Backend] = {}
        try:
            for count in counts(cores()):
                if self._over.is_set():
                    return
                made = open_backend(self._backend, self._bundle, self._precision, batch=self._batch, threads=count)
                made.input_nhwc[:] = 128
                opened[count] = made
            if medians_ms := self._time(opened):
                threads = fastest(medians_ms)
                key = key_of(self._bundle, self._backend, self._precision, self._batch)
                with suppress(OSError):  # a home that cannot be written is probed again
                    remember(key, threads, medians_ms)
                shown = ", ".join(f"{n}: {ms:.2f} ms" for n, ms in medians_ms.items())
                print(f"threads     {threads} from the next start on ({shown}); --threads N pins", file=sys.stderr)
        except Exception as error:  # whatever a runtime does here, the drive goes on
            print(f"threads     not probed: {' '.join(str(error).split())}", file=sys.stderr)
        finally:
            for backend in opened.values():
                backend.close()

    def _time(self, opened: dict[int, Backend]) -> dict[int, float]:
        times_ms: dict[int, list[float]] = {count: [] for count in opened}
        for turn in range(-WARM_UPS, ROUNDS):
            for count, backend in opened.items():
                if self._over.is_set():
                    return {}
                started = perf_counter_ns()
                backend.infer(self._batch)
                if turn >= 0:
                    times_ms[count].append((perf_counter_ns() - started) / 1e6)
        return {count: round(float(np.median(times)), 3) for count, times in times_ms.items()}

    def end(self) -> None:
        """Give up what is not done yet."""
        self._over.set()
        if self.is_alive():
            self.join(5.0)
