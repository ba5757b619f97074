"""A drive of many frames in its own process, with every sink and a camera that comes and goes: what it holds on to.

Run by test_soak.py. Prints one JSON object: the process's memory, threads and descriptors along the way.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from core.bundle.contract import open_bundle
from core.geometry.camera_config import CameraConfig
from core.geometry.frame import Frame
from core.machine import descriptors, resident_mb, threads
from core.synthetic import Scene
from inference.backends import open_backend
from inference.capture.base import SourceLost
from inference.capture.live import LiveSource, Reader
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.runner.camera_health import HealthTimeouts
from inference.runner.region_choice import pick_zones
from inference.runner.runner import Runner, RunnerConfig
from inference.runner.sink_worker import SinkWorker
from inference.sinks import Sink, SinkContext, open_sinks

RING = 16
TIMEOUTS = HealthTimeouts(stale_intervals=24, backoff_s=0.02, longest_backoff_s=0.1)
SAMPLES = 250


class Camera30(Reader):
    """A ring of pictures, faster than a camera; it is unplugged after `lives` frames and comes back when opened."""

    fps = 30.0
    opened = 0

    def __init__(self, pictures, lives):
        self._pictures, self._left = pictures, lives

    def open(self):
        Camera30.opened += 1

    def read(self, frame_id, spare):
        self._left -= 1
        if self._left < 0:
            raise SourceLost("unplugged")
        time.sleep(0.0002)
        now = time.monotonic_ns()
        return Frame(frame_id, now, self._pictures[frame_id % RING], now)

    def close(self):
        pass


class Sampler(Sink):
    """Looks at the process now and then."""

    name = "sampler"

    def __init__(self, every):
        self._every, self._n, self.rows = every, 0, []

    def write(self, decision, frame_bgr):
        self._n += 1
        if self._n % self._every == 0:
            self.rows.append((self._n, resident_mb(), threads(), descriptors()))

    def close(self):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--web", default="0")
    options = parser.parse_args()
    given = {
        "no_overlay": True,
        "record": options.out / "record",
        "record_mb": 8,
        "out": options.out,
        "web": options.web,
    }
    bundle = open_bundle(options.bundle)
    scene = Scene(seed=1, width=128, height=72, scenario="day")
    pictures = [scene.render(i)[0] for i in range(RING)]
    source = LiveSource(lambda: Camera30(pictures, max(options.frames // 50, 1)))
    zones = pick_zones(CameraConfig({"ego": (0.3, 0.4, 0.7, 1.0)}), source)
    backend = open_backend(options.backend, bundle, options.precision, batch=zones.max_regions, threads=1)
    context = SinkContext(bundle, source, CameraConfig(), zones, ())
    workers = [SinkWorker(s, waits=not source.live) for s in open_sinks(context, given)]
    sampler = Sampler(max(options.frames // SAMPLES, 1))
    workers.append(SinkWorker(sampler, waits=True))
    # zones without a background class: what is said of them is no matter here, what is held on to is
    processor = FrameProcessor(bundle, backend, zones, FrameConfig(allow_unproved=True))
    runner = Runner(processor, source, workers, RunnerConfig(timeouts=TIMEOUTS))
    started = time.monotonic()
    runner.run(options.frames)
    seconds = time.monotonic() - started
    source.close()
    for worker in workers:
        worker.close()
    names = ("frames", "resident_mb", "threads", "descriptors")
    series = dict(zip(names, map(list, zip(*sampler.rows, strict=True)), strict=True))
    summary = runner.summary()
    print(json.dumps({
        "series": series, "seconds": round(seconds, 1), "opened": Camera30.opened, "frames": summary["frames"],
        "sinks": summary["sinks"], "states": sorted({e["to"] for e in summary["events"]}),
        "age_ms": summary["age_ms"],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
