"""An open detector: it takes a frame and gives the boxes of the classes that count."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.errors import InputError, as_device_error
from core.geometry.detector_config import DetectorConfig, DetectorFile, DetectorInput
from core.geometry.frame import Bytes
from core.geometry.preprocess import rect_of
from inference import backends, detectors
from inference.backends import Network, UnavailableError
from inference.detectors import Detections
from inference.frame.detection.faults import find_fault, find_nan
from inference.frame.detection.letterbox import Letterbox, Placement, to_picture

log = logging.getLogger(__name__)

CANDIDATES = 1000
"""At most this many boxes are compared for overlaps, or a detector that finds boxes everywhere would take seconds."""
ORIGINAL_SIZE = "orig_target_sizes"
"""A second input of RT-DETR's own export: the width and height that its boxes are scaled to."""
ON_CPU = "ort"
"""The backend that runs a detector which the classifier's backend cannot run."""
FLOATS = ("float16", "float32", "float64")
ROAD_USERS = ("person", "bicycle", "car", "motorcycle", "bus", "truck")


def resolve_config(network: Network, config: DetectorConfig) -> DetectorConfig:
    """Return `config` with everything filled in that the network's outputs and metadata say.

    Raises InputError for a network without outputs, an unknown layout, an input that no picture fits or whose size
    nothing states, a number of names that is not the number of classes, or a counted class that does not exist;
    UnavailableError for a size that is not the open network's.
    """
    if not network.outputs:
        raise InputError(f"{network.file} has no outputs: export it again, with its boxes, scores and classes")
    # first what the user states, then what the network says, then the default of its layout
    layout = config.layout or detectors.recognize(network)
    if not detectors.find(layout).matches(network):
        told = detectors.describe(network)
        raise InputError(
            f"the outputs of {network.file} do not fit the detector's layout {layout!r} ({told}): leave the layout out"
        )
    asked = config.input or detectors.find(layout).INPUT
    _check_input(network, asked)
    size_hw = asked.size_hw or detectors.size_of(network)
    if size_hw is None:
        raise InputError(f"{network.file} takes pictures of any size: state one as the detector's input.size_hw")
    own_hw = detectors.fixed_size_of(network)
    if own_hw is not None and tuple(size_hw) != own_hw:
        # unavailable: an engine has one size, also where the file leaves it free
        raise UnavailableError(f"{network.file} takes pictures of {own_hw}, the detector's input.size_hw is {size_hw}")
    names = config.names or detectors.class_names(network, layout)
    # by default road users count; whatever else a detector knows, such as chairs, does not
    counts = config.counts or tuple(name for name in ROAD_USERS if name in names)
    classes = detectors.find(layout).classes(network) or 0
    if classes > 0 and config.names not in ((), detectors.NAMES_OF.get(classes)) and len(config.names) != classes:
        raise InputError(
            f"{network.file} has {classes} classes, the detector's names are {len(config.names)}: give one for each"
        )
    known_classes = classes if classes > 0 else len(names)
    if unknown := [name for name in counts if name not in names and not _is_number(name, known_classes)]:
        known = ", ".join(names) or "none: give their numbers, or state names"
        raise InputError(f"{network.file} has no class {unknown[0]!r} that could count: it has {known}")
    return replace(config, layout=layout, input=replace(asked, size_hw=size_hw), names=names, counts=counts)


def _is_number(name: str, classes: int) -> bool:
    """Return whether a name is the number of a class. classes: how many there are; 0 where nothing says it."""
    return name.isdecimal() and len(name) < 10 and (not classes or int(name) < classes)


def _numbers_of(name: str, names: tuple[str, ...]) -> list[int]:
    """Return the numbers of all classes of a name; of a number that is no name, the number."""
    return [at for at, other in enumerate(names) if other == name] or [int(name)]


def _check_input(network: Network, asked: DetectorInput) -> None:
    """Raise InputError where a picture, prepared as asked, does not fit the network's inputs."""
    picture = detectors.image_input(network)
    pictures = picture.shape[0] if len(picture.shape) == 4 else 1
    channels = picture.shape[-1 if detectors.channels_last(picture) else -3]
    others = [tensor.name for tensor in network.inputs if tensor is not picture and tensor.name != ORIGINAL_SIZE]
    if pictures not in (None, 1) or channels not in (None, 3) or others:
        told = detectors.describe(network)
        raise InputError(f"{network.file} does not take one picture of three colors alone ({told}): export it to do so")
    # whole numbers would cut 0 to 1 off to black, and no box would be found
    untouched = picture.dtype == "uint8" and not np.any(asked.mean) and np.all(np.equal(asked.std, 1))
    if picture.dtype not in FLOATS and not untouched:
        raise InputError(
            f"{network.file} takes {picture.dtype}, the detector's input is (pixel - {asked.mean}) / {asked.std}: "
            "state mean 0 and std 1 for uint8, or export it for float32"
        )


class Detector:
    """An open network and how its outputs become boxes. Not thread-safe."""

    def __init__(self, network: Network, config: DetectorConfig) -> None:
        """config: as `resolve_config` gave it."""
        if config.input is None or config.input.size_hw is None:
            raise InputError(f"{network.file}: the detector's layout and input are not resolved")
        self._network, self.config = network, config
        self._layout = detectors.find(config.layout)
        self._size_hw = config.input.size_hw
        tensor = detectors.image_input(network)
        self._letterbox = Letterbox(config.input, self._size_hw, tensor.dtype, detectors.channels_last(tensor))
        image = self._letterbox.input if len(tensor.shape) == 4 else self._letterbox.input[0]
        # the same arrays for every frame: `Letterbox.fill` writes into the one that is fed
        self._feeds = {tensor.name: image}
        for other in network.inputs:
            if other.name == ORIGINAL_SIZE:
                self._feeds[other.name] = np.array([self._size_hw[::-1]], other.dtype)
        self._counted = np.array([at for name in config.counts for at in _numbers_of(name, config.names)], np.int64)

    @property
    def backend(self) -> str:
        """The backend that runs it."""
        return self._network.backend

    @property
    def file(self) -> Path:
        """Its ONNX file."""
        return self._network.file

    @property
    def opened(self) -> str:
        """The name of what runs: of its file, or of an engine that was built from it."""
        return self._network.opened

    def detect(self, frame_bgr: Bytes) -> Detections | None:
        """Return the boxes of the classes that count, the highest scores first, in pixels of the frame.

        Return None where an output holds NaN: to find no box would then mean nothing.
        frame_bgr: uint8 (H, W, 3). Raises DeviceError for whatever the runtime raises, InputError for outputs that the
        layout cannot read.
        """
        x0, y0, x1, y1 = rect_of(self.config.look_at, frame_bgr.shape[1], frame_bgr.shape[0])
        outputs, placed = self._run(frame_bgr[y0:y1, x0:x1])
        if any(_has_nan(array) for array in outputs.values()):
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite box is left out
            found = self._counting(self._read(outputs))
            boxes_n4 = to_picture(found.boxes_n4, placed, (y1 - y0, x1 - x0))
        # what lies in the padding alone was clipped to nothing; it must not take the place of what is in the picture
        inside = np.flatnonzero((boxes_n4[:, 2:] > boxes_n4[:, :2]).all(1))
        rows = inside[self._best(found.select(inside))]
        corner = np.array([x0, y0, x0, y0], np.float32)
        return Detections(boxes_n4[rows] + corner, found.scores_n[rows], found.classes_n[rows])

    def find_fault(self, frame_bgr: Bytes) -> str:
        """Return why no box of a frame can be used, as the end of a sentence; empty where the picture may be why."""
        x0, y0, x1, y1 = rect_of(self.config.look_at, frame_bgr.shape[1], frame_bgr.shape[0])
        outputs, _ = self._run(frame_bgr[y0:y1, x0:x1])
        return find_nan(outputs) or find_fault(self._read(outputs), self._counted, self.config)

    def _run(self, picture_bgr: Bytes) -> tuple[detectors.Outputs, Placement]:
        """Return the network's answer to a picture, and where the picture lay in its input."""
        placed = self._letterbox.fill(picture_bgr)
        try:
            return self._network.run(self._feeds), placed
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the runtimes' exceptions share no base; a panic of Rust is no Exception
            raise as_device_error(error, "the detector") from error

    def _read(self, outputs: detectors.Outputs) -> Detections:
        return detectors.read_outputs(self._network, self._layout, outputs, self._size_hw, self.config.threshold)

    def _counting(self, found: Detections) -> Detections:
        """Return the boxes of the classes that count, without infinite and empty ones, whose overlaps mean nothing."""
        usable = np.isfinite(found.boxes_n4).all(1) & np.isfinite(found.scores_n)
        usable &= (found.boxes_n4[:, 2:] > found.boxes_n4[:, :2]).all(1)
        if len(self._counted):
            usable &= np.isin(found.classes_n, self._counted)
        return found.select(usable)

    def _best(self, found: Detections) -> NDArray[np.int64]:
        """Return the rows of the boxes that overlap no better one, the best first, at most `most` of them."""
        # stable: boxes of equal score keep their order, so that every machine keeps the same ones
        rows = np.argsort(-found.scores_n, kind="stable")[:CANDIDATES]
        if self.config.agnostic or not self._layout.SUPPRESSED:
            kept = suppress_overlaps(found.select(rows), self.config.overlap, agnostic=self.config.agnostic)
            rows = rows[np.array(kept, np.int64)]
        return rows[: self.config.most]

    def mark_proved(self) -> None:
        """Record that its golden frames passed on this device."""
        self._network.mark_proved()

    def close(self) -> None:
        """Free the network."""
        self._network.close()


def _has_nan(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.size > 0 and bool(np.isnan(array.max()))


def suppress_overlaps(found: Detections, overlap: float, *, agnostic: bool) -> list[int]:
    """Return the rows that no better row overlaps by more than `overlap`, best first. found: the best first."""
    if not len(found):
        return []
    xywh = found.boxes_n4.copy()  # OpenCV wants corner, width and height
    xywh[:, 2:] -= xywh[:, :2]
    boxes, scores = xywh.tolist(), found.scores_n.tolist()
    if agnostic:
        kept = cv2.dnn.NMSBoxes(boxes, scores, 0.0, overlap)
    else:
        kept = cv2.dnn.NMSBoxesBatched(boxes, scores, found.classes_n.tolist(), 0.0, overlap)
    return sorted(int(row) for row in np.ravel(kept))


def open_detector_or_on_cpu(file: DetectorFile, backend: str, threads: int | None) -> Detector:
    """Open a detector on a backend; where that cannot run it, on the CPU, with a warning that says why.

    Raises InputError as `open_detector` does.
    """
    try:
        return open_detector(file, backend, threads)
    except UnavailableError as error:
        if backend == ON_CPU:
            raise
        log.warning(f"the detector runs on the CPU, on {ON_CPU} ({error})")
        return open_detector(file, ON_CPU, threads)


def open_detector(file: DetectorFile, backend: str, threads: int | None) -> Detector:
    """Open a detector on a backend.

    Raises UnavailableError when the backend cannot run it here, InputError when the file does not load or its outputs
    are those of no known detector.
    """
    network = backends.open_network(backend, file.path, threads=file.config.threads or threads)
    try:
        return Detector(network, resolve_config(network, file.config))
    except BaseException:
        network.close()
        raise
