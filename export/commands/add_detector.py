"""Add a detector to the bundles of a run: its file, its configuration, and golden frames that prove it."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from core.cli import Parser, ending_native_calls
from core.data.labeled_frames import load_frame, read_frames
from core.data.run_dir import Run, folder_name, open_run
from core.errors import InputError
from core.files import read_object
from core.geometry.detector_config import DetectorConfig, DetectorFile
from core.geometry.frame import Bytes
from core.locks import locked
from core.redact import public_text, public_uri
from export.bundle_detector import PreparedDetector, add, prepare, spread
from export.production import warn_of_earlier_choice
from inference.capture.base import EndOfStream, SourceLost
from inference.sources import open_source

log = logging.getLogger(__name__)

MOST_FRAMES = 60
"""Golden frames are chosen among this many."""
TIMEOUT_S = 5.0


def main(arguments: list[str]) -> int:
    """Add the detector to every bundle; print what was added, and its checks."""
    parser = Parser(prog="python -m export add-detector", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, runs/NAME")
    parser.add_argument("detector", type=Path, metavar="FILE.onnx", help="the detector to add")
    parser.add_argument("--config", type=Path, metavar="FILE", help="detector.json: threshold, counts, every, ...")
    parser.add_argument("--frames", metavar="URI", help="a video or folder for golden frames (default: the pack's)")
    parser.add_argument("--models", nargs="+", metavar="ARCH", help="only these (default: all, and production)")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    args = parser.parse_args(arguments)
    run = open_run(args.run)
    folders = _bundles(run, args.models)
    file = DetectorFile(args.detector, _read_config(args.config) if args.config else DetectorConfig())
    frames = _frames_of(args.frames) if args.frames else _frames_of_pack(run)
    with ending_native_calls():  # a detector that hangs
        detector = prepare(file, frames)
    with locked(*folders):
        checks = {str(folder): add(folder, detector) for folder in folders}
    warn_of_earlier_choice(run, "was chosen without this detector")
    lines = [{"bundle": folder, **asdict(row)} for folder, rows in checks.items() for row in rows]
    if args.json:
        print(json.dumps({"detector": detector.config.as_json(), "checks": lines}, indent=1))
    else:
        print(_describe(detector))
        for line in lines:
            print("{bundle}  {backend:10} {check}: {value:.3g}, limit {limit:g}".format(**line))
    return 0


def _describe(detector: PreparedDetector) -> str:
    """Return what was added: how its outputs are read, which boxes are classified, and the golden frames."""
    config = detector.config
    height, width = config.input.size_hw if config.input and config.input.size_hw else (0, 0)
    counts = ", ".join(config.counts[:8]) + (", ..." if len(config.counts) > 8 else "")
    of = f" of its {len(config.names)} classes" if config.names else ""
    rate = "every frame" if config.every == 1 else f"every {config.every} frames"
    golden = detector.golden
    return (
        f"{detector.path.name}: layout {config.layout}, {width}x{height} px; classified are boxes of "
        f"{counts or 'every class'}{of}\nthreshold {config.threshold:g}, overlap {config.overlap:g}, {rate}; "
        f"{len(golden.frames)} golden frames with {len(golden.frame_of_n)} boxes"
    )


def _bundles(run: Run, wanted: list[str] | None) -> list[Path]:
    exported = run.bundles()
    if wanted:
        names = [folder_name(name) for name in wanted]
        # an architecture that was named and is not there is an error; the default takes what there is
        if unknown := [name for name in names if name not in exported]:
            raise InputError(f"{run.path} holds no bundle of {unknown[0]}: it has {', '.join(exported) or 'none'}")
        return [exported[name] for name in names]
    folders = list(exported.values())
    # production/ is a copy of a bundle: without the detector it would not be what was added here
    if production := run.production():
        folders.append(production)
    if not folders:
        raise InputError(f"{run.path} holds no bundle: export it first with `python -m export {run.path}`")
    return folders


def _read_config(path: Path) -> DetectorConfig:
    body = read_object(path, 'write {"threshold": 0.3, "every": 1}, any field of the detector')
    try:
        return DetectorConfig.from_json(body)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _frames_of(uri: str) -> list[Bytes]:
    """Read up to ten times MOST_FRAMES frames of a video, folder or stream; return MOST_FRAMES of them, evenly spread.

    Raises InputError where there is none. A source that is lost after its first frames is a warning.
    """
    frames = list[Bytes]()
    try:
        with closing(open_source(uri)) as source:
            while len(frames) < 10 * MOST_FRAMES and (frame := source.read(TIMEOUT_S)) is not None:
                frames.append(frame.image_bgr.copy())
    except EndOfStream:  # a short video or folder is no error
        pass
    except SourceLost as error:
        reason = public_text(str(error))
        if not frames:
            raise InputError(f"--frames {public_uri(uri)} gives no frame ({reason}): give one that does") from None
        log.warning(f"--frames {public_uri(uri)} ended after {len(frames)} frames ({reason}): these are used")
    if not frames:
        raise InputError(f"--frames {public_uri(uri)} gives no frame: give a video, a folder or a stream that does")
    return spread(frames, MOST_FRAMES)


def _frames_of_pack(run: Run) -> list[Bytes]:
    """Return labeled val frames of the run's pack. Raises InputError when it has none."""
    try:
        pack = run.open_pack()
        labeled = read_frames(pack, "val")
    except InputError as error:
        raise InputError(f"{error}; or give --frames, a video or folder for the golden frames") from None
    loaded = (load_frame(pack, frame) for frame in islice(labeled, MOST_FRAMES))
    return [frame for frame in loaded if not isinstance(frame, str)]
