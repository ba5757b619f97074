"""The synthetic rear camera, `synthetic://?scenario=mixed&fps=30&seed=1`, with the class of every zone as truth."""

from __future__ import annotations

from time import monotonic_ns

from core.errors import InputError
from core.geometry.frame import AgeBasis, Frame
from core.synthetic import ZONES, Scene
from inference.capture.base import EndOfStream, Source
from inference.sources import parameters

SCHEMES = ("synthetic",)
DEFAULTS: dict[str, str | float | int] = {
    "scenario": "mixed",
    "fps": 30.0,
    "seed": 1,
    "width": 1280,
    "height": 720,
    "frames": 300,
}


def open_source(uri: str) -> SyntheticSource:
    """Open the scene that the URI describes; `frames=0` has no end. Raises InputError naming a bad parameter."""
    return SyntheticSource(**parameters(uri, DEFAULTS))  # type: ignore[arg-type]


class SyntheticSource(Source):
    """The frames of the scene, as fast as they are read and the same every time."""

    synthetic = True
    zones = ZONES

    def __init__(self, scenario: str, fps: float, seed: int, width: int, height: int, frames: int) -> None:
        if frames < 0:
            raise InputError(f"the scene's frames are {frames}: give 1 or more, or 0 for no end")
        self._scene = Scene(seed, width, height, scenario, fps)
        self.fps = fps
        self._frames = frames
        self._next = 0

    def read(self, timeout_s: float) -> Frame | None:
        """Draw the next frame. Raises EndOfStream after the last."""
        if 0 < self._frames <= self._next:  # 0 frames: without an end
            raise EndOfStream
        index = self._next
        self._next += 1
        image, truth = self._scene.render(index)
        # drawn now, so its age counts from its capture; by the index, since adding intervals would add their roundings
        media_ns = round(index * 1e9 / self.fps)
        return Frame(index, monotonic_ns(), image, media_ns, truth, age_basis=AgeBasis.CAPTURE)
