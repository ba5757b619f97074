"""Draws a decision on its frame, for the overlay video."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np

from core.geometry.frame import Bytes, Rect
from core.geometry.occupancy import overlap_ratio
from inference.frame.decision import Decision, Verdict
from inference.frame.states import State

COLORS_BGR = {
    State.OK: (80, 200, 80),
    State.UNKNOWN: (60, 190, 240),
    State.UNPROVED: (60, 190, 240),
    State.BLIND: (200, 120, 200),
    State.STALE: (60, 60, 230),
    State.LOST: (60, 60, 230),
    State.STARTING: (200, 200, 200),
    State.FAILED: (60, 60, 230),
}
FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(frame_bgr: Bytes, decision: Decision, *, mirror: bool = False) -> Bytes:
    """Draw regions, labels, reason and state into `frame_bgr`; return it, flipped left to right with `mirror`."""
    height, width = frame_bgr.shape[:2]
    if mirror:  # before anything is drawn, so that the letters are not mirrored
        frame_bgr = np.asarray(cv2.flip(frame_bgr, 1), np.uint8)
    scale = max(width, 320) / 1600  # letters grow with the picture, and stay legible on a small one
    plates = list[Rect]()
    for verdict in decision.verdicts:
        x0, y0, x1, y1 = verdict.rect
        _draw_region(frame_bgr, (width - x1, y0, width - x0, y1) if mirror else verdict.rect, verdict, scale, plates)
    stamps = "".join(f"  {stamp.upper()}" for stamp in decision.stamps)
    age = f"age {decision.age_ms:.1f} ms since {decision.age_basis}"
    line = f"{decision.state}  frame {decision.frame_id}  {age}  drops {decision.drops}{stamps}"
    (text_px, line_px), _ = cv2.getTextSize(line, FONT, scale, 1)
    reason = textwrap.wrap(decision.reason, max(len(line) * (width - 8) // text_px, 20))
    # from the lower edge upward, so the last line of the reason comes first
    for row, text in enumerate([line, *reversed(reason)]):
        corner = (4, height - 6 - round(1.6 * row * line_px))
        _draw_text(frame_bgr, text, corner, COLORS_BGR[decision.state], scale)
    return frame_bgr


def _draw_region(frame_bgr: Bytes, rect: Rect, verdict: Verdict, scale: float, plates: list[Rect]) -> None:
    color = COLORS_BGR[verdict.state]
    x0, y0, x1, y1 = rect
    # x1, y1 are the first pixels outside; OpenCV's second corner is the last one inside
    cv2.rectangle(frame_bgr, (x0, y0), (x1 - 1, y1 - 1), color, max(1, round(3 * scale)))
    text = f"{verdict.name}: {verdict.said}" + ("" if verdict.label is None else f" {verdict.prob:.0%}")
    _draw_text(frame_bgr, text, _label_corner(text, rect, frame_bgr.shape[1], scale, plates), color, scale)


def _label_corner(text: str, rect: Rect, frame_width: int, scale: float, plates: list[Rect]) -> tuple[int, int]:
    """Return where a region's text begins: inside, or outside where it would hide a small region or another text.

    plates: the rectangles of the texts so far; that of this one is added.
    """
    x0, y0, x1, y1 = rect
    (width, height), below = cv2.getTextSize(text, FONT, scale, max(1, round(2 * scale)))
    # inside the region where the text covers at most a third of its height
    if width + 8 <= x1 - x0 and 3 * height <= y1 - y0:
        left = x0 + 4
        bottoms = [y0 + round(34 * scale) + 4]
    else:
        left = max(min(x0 + 2, frame_width - width - 2), 2)
        line = height + below + 4
        steps = range(0, 4 * line, line)
        # above the region, further up where another text stands there; then below it
        above = [y0 - below - 3 - step for step in steps]
        bottoms = [y for y in above if y >= height + 2]
        bottoms += [y1 + height + 4 + step for step in steps]
    tried = [(left, bottom - height, left + width, bottom + below) for bottom in bottoms]
    plate = next((plate for plate in tried if _is_free(plate, plates)), tried[0])
    plates.append(plate)
    return left, plate[3] - below


def _is_free(plate: Rect, plates: list[Rect]) -> bool:
    return not any(overlap_ratio(plate, other) for other in plates)


def _draw_text(frame_bgr: Bytes, text: str, corner: tuple[int, int], color: tuple[int, int, int], scale: float) -> None:
    # on a black plate: an outline, which is a thicker black copy below, hides the letters in OpenCV 5
    thickness = max(1, round(2 * scale))
    text = text.encode(errors="replace").decode()  # OpenCV 5 crashes at a lone surrogate
    (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    x, y = corner
    top_left = (x - 2, y - height - 2)
    bottom_right = (x + width + 1, y + below)
    cv2.rectangle(frame_bgr, top_left, bottom_right, (0, 0, 0), cv2.FILLED)
    cv2.putText(frame_bgr, text, corner, FONT, scale, color, thickness, cv2.LINE_AA)
