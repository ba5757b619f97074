"""What is timed: the frames of a source, by default of the synthetic rear camera, and the regions in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from core.bundle import golden_detections
from core.bundle.contract import DETECTOR, Bundle
from core.errors import InputError
from core.files import read_object, write_json
from core.geometry.camera_config import CameraConfig, read_camera_config
from core.geometry.frame import Bytes
from core.redact import public_uri
from core.synthetic import ZONES, Scene
from inference.capture.base import EndOfStream, SourceLost
from inference.frame.processor import FrameConfig
from inference.runner.region_choice import find_detector
from inference.sources import open_source

SYNTHETIC = "synthetic://?frames=0"
SIZE_PX = (1280, 720)
COUNT = 16
FPS = 30.0
EGO = {"ego": ZONES["ego"]}
"""The zone that is timed, at batch 1: the lane behind the car."""


def synthetic_frames(count: int = COUNT, size_px: tuple[int, int] = SIZE_PX, seed: int = 0) -> list[Bytes]:
    """Return BGR frames of the synthetic rear camera, uint8 (H, W, 3), two seconds apart."""
    scene = Scene(seed, *size_px)
    step = round(2 * scene.fps)  # two seconds: consecutive frames would be nearly the same
    return [scene.render(step * i)[0] for i in range(count)]


@dataclass(frozen=True)
class TimedInput:
    """The frames and the regions of every timing, the same for all candidates."""

    uri: str | None
    """The source of the frames; None: the golden frames of the detector, else the synthetic camera."""
    camera_file: Path | None
    camera: CameraConfig
    """The content of camera_file; its detector is in front of every candidate, that of the bundles too."""
    golden: Bundle | None
    """A bundle with that detector and its golden frames; None where the detector is not the bundles'."""

    @property
    def config(self) -> FrameConfig:
        """The settings of the frame step, with the mounting of the camera."""
        return FrameConfig(self.camera)

    @property
    def source(self) -> str:
        """A description of the source of the frames."""
        return "the golden frames of the detector" if self._on_golden else public_uri(self.uri or SYNTHETIC)

    @property
    def regions(self) -> str:
        """A description of the regions of a frame."""
        if self.camera.detector:
            return "the tracked boxes of the detector, whose time is included"
        return f"the zones of {self.camera_file.name}" if self.camera_file and self.camera.zones else "one zone"

    @cached_property
    def frames(self) -> list[Bytes]:
        """The frames, BGR; the golden ones enlarged to the width of SIZE_PX. Raises InputError when there is none."""
        if not self._on_golden:
            return read_source(self.uri)
        assert self.golden
        golden = golden_detections.load_golden_detections(self.golden.check_file(golden_detections.NAME))
        return [_enlarge(frame) for frame in golden.frames]

    @property
    def _on_golden(self) -> bool:
        return self.uri is None and self.golden is not None

    @contextmanager
    def for_runner(self, count: int) -> Iterator[TimedInput]:
        """Yield this with a source that the runner can open: golden frames become `count` frames of a video."""
        if not self._on_golden:
            yield self
            return
        with TemporaryDirectory() as folder:
            file = Path(folder) / "golden.avi"
            height, width = self.frames[0].shape[:2]
            # MJPG: each frame is coded alone, as close to the golden one as JPEG allows
            video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (width, height))
            for frame in islice(cycle(self.frames), count):
                video.write(frame)
            video.release()
            yield replace(self, uri=str(file))

    def write_camera(self, folder: Path) -> Path:
        """Return the camera.json of the runner: the given one, or one with the same mounting and the timed zone."""
        if self.camera_file and (self.camera.zones or self.camera.detector):
            return self.camera_file.resolve()
        body = read_object(self.camera_file, "") if self.camera_file else {}
        zones = {} if self.golden else {"zones": {name: list(rect) for name, rect in EGO.items()}}
        write_json(folder / "camera.json", body | zones)
        return folder / "camera.json"


def choose_input(uri: str | None, camera_file: Path | None, bundles: Mapping[str, Bundle]) -> TimedInput:
    """Return what is timed: the frames of `uri`; else those that prove the detector, as they show something to find.

    Raises InputError where not every bundle has the same detector in front: their frames would not be alike.
    """
    camera = read_camera_config(camera_file) if camera_file else CameraConfig()
    if camera.zones or camera.detector:  # what the user gave goes before what the bundles hold
        return TimedInput(uri, camera_file, camera, None)
    # by its bytes and its settings: either changes what is found, and how long that takes
    kinds = {}
    for arch, bundle in bundles.items():
        kinds[arch] = bundle.detector and (bundle.files[DETECTOR]["sha256"], bundle.detector)
    first, *others = kinds
    for arch in others:
        if kinds[arch] != kinds[first]:
            raise InputError(
                f"{first} and {arch} do not hold the same detector, so their frames cannot be compared: give every"
                " bundle the same with `python -m export add-detector RUN FILE.onnx`, or zones with --camera"
            )
    # bundles of other input sizes hold no detector: they get this one from the camera, or they would be timed without
    camera = replace(camera, detector=find_detector(bundles[first], camera))
    return TimedInput(uri, camera_file, camera, bundles[first] if camera.detector else None)


def _enlarge(frame: Bytes) -> Bytes:
    height, width = frame.shape[:2]
    # to a camera's size: geometry would take less time on the small frames that a bundle stores
    size = (SIZE_PX[0], round(height * SIZE_PX[0] / width))
    return np.asarray(cv2.resize(frame, size), np.uint8)


def read_source(uri: str | None, count: int = COUNT) -> list[Bytes]:
    """Return the first `count` frames of a source, or synthetic ones. Raises InputError when it has none."""
    if uri is None:
        return synthetic_frames(count)
    frames: list[Bytes] = []
    with closing(open_source(uri)) as source, suppress(EndOfStream, SourceLost):
        while len(frames) < count and (frame := source.read(timeout_s=10.0)) is not None:
            frames.append(frame.image_bgr.copy())
    if not frames:
        raise InputError(f"{public_uri(uri)} gave no frame: check it with `python -m inference run`")
    return frames
