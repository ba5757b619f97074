"""Run a bundle on a camera, a video, a folder or the synthetic scene: decisions, overlay video, summary."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.commands import Parser
from inference.errors import CheckError, InputError
from inference.supervisor import ALONE, BUILDING, ENDING, OPENING, Limits, Supervisor, Worker, is_live

SCHEMA = 1


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line. Raises InputError for numbers out of range."""
    parser = Parser(prog="python -m inference run", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, such as runs/NAME/production")
    parser.add_argument(
        "--source", required=True, metavar="URI", help="0, /dev/video0, a video, a folder, replay://DIR, synthetic://"
    )
    parser.add_argument("--backend", help="default: the production choice, else ort")
    parser.add_argument("--precision", help="default: the production choice, else int8 if its gates hold, else fp32")
    parser.add_argument(
        "--threads", type=int, help="threads of the network; default: as chosen or probed on this machine"
    )
    parser.add_argument("--camera", type=Path, metavar="FILE", help="camera.json: zones and mounting")
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="boxes.jsonl, or a pack: the regions of each frame, not smoothed"
    )
    parser.add_argument("--decision", type=Path, metavar="FILE", help="decision.json: smoothing, margin, hold")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--realtime", action="store_true", help="play a recorded source at its own rate, with drops")
    parser.add_argument("--out", type=Path, metavar="DIR", help="receives decisions.jsonl, overlay.mp4, summary.json")
    parser.add_argument("--no-overlay", action="store_true", help="write no overlay.mp4")
    parser.add_argument("--web", metavar="[HOST:]PORT", help="serve the page, state.json and metrics (127.0.0.1:PORT)")
    parser.add_argument("--web-token", metavar="TOKEN", help="who asks for the page must know it: /?token=TOKEN")
    parser.add_argument("--record", type=Path, metavar="DIR", help="record frames and decisions for replay://DIR")
    parser.add_argument("--record-mb", type=int, default=2000, metavar="N", help="the newest N MB are kept (2000)")
    parser.add_argument("--record-lossless", action="store_true", help="record PNG in place of JPEG")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument(
        "--supervise",
        action=argparse.BooleanOptionalAction,
        help="start the runner again when it dies or hangs; default: for cameras, whose pictures cannot be read again",
    )
    options = parser.parse_args(arguments)
    for name in ("frames", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}: give 1 or more")
    return options


def main(arguments: list[str]) -> int | None:
    """Run, under a supervisor where the source is a camera; print the summary."""
    options = read_arguments(arguments)
    camera = is_live(options.source)
    if not (camera if options.supervise is None else options.supervise):
        work(options, ALONE)
        return None
    # a recorded source waits for its sinks, which is no hang
    limits = Limits() if camera or options.realtime else Limits(hang_s=Limits.ending_s)
    journal = options.out / "decisions.jsonl" if options.out else None
    return Supervisor(lambda worker: work(options, worker), limits, journal).run()


def work(options: argparse.Namespace, worker: Worker) -> None:
    """Drive; print the summary."""
    summary = drive(options, worker)
    print(json.dumps(summary, indent=1) if options.json else describe(summary))


def drive(options: argparse.Namespace, worker: Worker = ALONE) -> dict[str, Any]:
    """Open everything, run, close everything; return the summary and write it to --out."""
    from inference.backends import open_backend
    from inference.boxes import read_boxes
    from inference.camera import Camera, Mounting, read_camera
    from inference.contract import open_bundle
    from inference.files import write_json
    from inference.live import play_in_real_time
    from inference.pipeline import Pipeline
    from inference.process import cores
    from inference.runner import Runner, pick_backend_and_precision, pick_zones, stamps_of
    from inference.selftest import self_test
    from inference.sinks import Drive, Outlet, open_sinks
    from inference.sources import open_source
    from inference.steady import Habits, read_habits
    from inference.threads import Probe, chosen_here, key_of, remembered

    bundle = open_bundle(options.bundle)
    name, precision = pick_backend_and_precision(bundle, options.backend, options.precision)
    camera = read_camera(options.camera) if options.camera else Camera()
    if options.boxes and camera.zones:
        raise InputError(f"{options.camera} has zones and there is --boxes: give one of the two")
    habits = read_habits(options.decision) if options.decision else Habits()
    source = open_source(options.source)
    backend = probe = None
    outlets: list[Outlet] = []
    try:
        zones = read_boxes(options.boxes) if options.boxes else pick_zones(camera, source)
        key = key_of(bundle, name, precision, zones.most)
        threads = options.threads or chosen_here(bundle) or remembered(key)
        worker.beat(BUILDING)
        backend = open_backend(name, bundle, precision, batch=zones.most, threads=threads)
        worker.beat(OPENING)
        tested = self_test(bundle, name, backend, precision)
        if tested["passed"] is None:
            print(f"warning: no power-on self-test: {tested['why']}", file=sys.stderr)
        if options.realtime:
            source = play_in_real_time(source)
        stamps = stamps_of(bundle, source)
        outlets = open_sinks(Drive(options, bundle, source, camera, zones, stamps, worker.number))
        # unrelated pictures say nothing of each other
        steady = habits if source.sequence and not options.boxes else None
        pipeline, mounting = Pipeline(bundle, backend), Mounting(camera)
        runner = Runner(bundle, pipeline, source, zones, mounting, outlets, stamps, habits=steady, worker=worker)
        if threads is None and backend.describe()["device"] == "cpu" and cores() > 1:
            probe = Probe(bundle, name, precision, zones.most)
            runner.on_warm = probe.start
        print(f"running {options.source} on {name} {precision}, zones {' '.join(zones.names)}", file=sys.stderr)
        with stopping(runner.stop.set):
            runner.run(options.frames)
    finally:
        worker.beat(ENDING)
        if probe is not None:
            probe.end()
        source.close()
        for outlet in outlets:
            outlet.close()
        if backend is not None:
            facts = backend.describe()
            backend.close()
    if not runner.tally.frames:
        if runner.stop.is_set():
            raise CheckError("stopped by SIGTERM before the first frame")
        raise InputError(f"{options.source} gave no frame: give a source that does")
    summary = {
        "schema": SCHEMA,
        "source": options.source,
        "synthetic": "synthetic" in stamps,
        "stamps": list(stamps),
        "bundle": {
            "path": str(bundle.path),
            "arch": bundle.arch,
            "digest": digest_of(bundle),
            "contract": bundle.contract,
        },
        "backend": facts,
        "zones": list(zones.names),
        "self_test": tested,
        "restarts": worker.number,
        "habits": None if steady is None else vars(steady),
        **runner.summary(),
    }
    if options.out:
        try:
            write_json(options.out / "summary.json", summary)
        except OSError as error:
            raise InputError(f"{options.out}/summary.json cannot be written ({error.strerror}): make room") from None
    return summary


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM end the drive as the end of the source does: sinks finished, summary written, exit code 0."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may take signals
        yield
        return
    old = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def digest_of(bundle: Any) -> str:
    """Return the digest that stands in bundle.json."""
    return str(bundle.as_json()["digest"])


def describe(summary: dict[str, Any]) -> str:
    """Return the summary as a few lines for people."""
    backend, accuracy = summary["backend"], summary["accuracy"]
    stamps = f"  [{', '.join(summary['stamps'])}]" if summary["stamps"] else ""
    said = "  ".join(f"{name} {n}" for name, n in sorted(summary["said"].items(), key=lambda item: -item[1]))
    lines = [
        f"{summary['bundle']['arch']} {backend['precision']} on {backend['backend']} x{backend['threads']}{stamps}",
        f"frames      {summary['frames']}  drops {summary['drops']}",
        f"said        {said}",
        f"age         {_percentiles(summary['age_ms'])}",
    ]
    lines += [f"{name:11} {_percentiles(series)}" for name, series in summary["stages_ms"].items()]
    if accuracy:
        lines.append(
            f"accuracy    {accuracy['raw']:.1%} of {accuracy['regions']} regions; a class was said of "
            f"{accuracy['said']:.1%} of them"
            + (f", {accuracy['right_of_said']:.1%} of those right" if accuracy["right_of_said"] is not None else "")
        )
    tested = summary["self_test"]
    passed = f"passed in {tested['ms']:.1f} ms" if tested["passed"] else f"none: {tested['why']}"
    lines.append(f"self-test   {passed}")
    lines.append(f"cold start  {summary['cold_start_ms']:.0f} ms from process start to the first decision")
    lines.append(f"memory      {summary['resident_mb']:.0f} MB resident")
    return "\n".join(lines)


def _percentiles(series: dict[str, float]) -> str:
    return f"p50 {series['p50']:.2f}  p90 {series['p90']:.2f}  p99 {series['p99']:.2f}  max {series['max']:.2f} ms"
