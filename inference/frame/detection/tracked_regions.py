"""The regions of a frame from a detector in front: its boxes, tracked, so that each object keeps its name."""

from __future__ import annotations

import numpy as np

from core.geometry.frame import Bytes, Frame, Rect
from core.geometry.occupancy import area
from core.geometry.preprocess import clip_rect
from inference.frame.detection.detector import Detector
from inference.frame.detection.tracking import Tracker
from inference.frame.regions import Regions, RegionSource

NOT_A_NUMBER = "the detector gives NaN"
TRACK = "track"
"""The beginning of a region's name; the number of its track follows."""


class TrackedRegions(RegionSource):
    """Runs a detector on every n-th frame; in between the tracks carry its boxes on."""

    fixed = False
    shares_cores = True

    def __init__(self, detector: Detector, *, sequence: bool = True) -> None:
        """sequence: whether frames follow each other; unrelated pictures are each detected and never tracked."""
        self.names = ("tracks",)
        self.max_regions = detector.config.most
        self.persistent = sequence
        self.detector = detector
        self.every = detector.config.every if sequence else 1
        self._tracker = Tracker()
        self._frames = 0
        self._failure = ""
        """The reason why the last detection failed: it holds for its frame and those until the next detection."""

    def regions_of(self, frame: Frame, picture_bgr: Bytes) -> Regions:
        """Return a region for each track, named by its number. Raises DeviceError when the detector fails."""
        now_ms = frame.media_ns / 1e6
        if not self.persistent:  # no track of the last picture may claim a box of this one
            self._tracker.reset()
        if self._frames % self.every == 0:
            found = self.detector.detect(picture_bgr)
            self._failure = NOT_A_NUMBER if found is None else ""
            tracks = [] if found is None else self._tracker.update(found, now_ms)
        else:
            # without the tracks that the last detection missed: their objects may be gone
            tracks = [] if self._failure else self._tracker.detected_last()
        self._frames += 1
        height, width = picture_bgr.shape[:2]
        names: list[str] = []
        rects: list[Rect] = []
        too_small: list[str] = []
        for track in tracks:
            x0, y0, x1, y1 = np.rint(track.predict(now_ms)).astype(int).tolist()
            # its velocity may have carried the box out of the frame, or its sides past each other
            if x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0:
                names.append(f"{TRACK}{track.number}")
                rects.append(clip_rect((x0, y0, x1, y1), width, height))
                if area(rects[-1]) < self.detector.config.min_side_px**2:
                    too_small.append(names[-1])
        return Regions(names, rects, {}, too_small=too_small, failure=self._failure)

    def close(self) -> None:
        """Close the detector."""
        self.detector.close()

    def reset(self) -> None:
        """Forget all tracks, and detect on the next frame."""
        self._tracker.reset()
        self._frames = 0
