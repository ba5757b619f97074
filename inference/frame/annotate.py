"""Draws a decision on its frame, for the overlay video."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np

from core.geometry.frame import Bytes, Rect
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
    if mirror:
        frame_bgr = np.asarray(cv2.flip(frame_bgr, 1), np.uint8)
    scale = max(width, 320) / 1600
    for verdict in decision.verdicts:
        x0, y0, x1, y1 = verdict.rect
        _draw_region(frame_bgr, (width - x1, y0, width - x0, y1) if mirror else verdict.rect, verdict, scale)
    stamps = "".join(f"  {stamp.upper()}" for stamp in decision.stamps)
    age = f"age {decision.age_ms:.1f} ms since {decision.age_basis}"
    line = f"{decision.state}  frame {decision.frame_id}  {age}  drops {decision.drops}{stamps}"
    (text_px, line_px), _ = cv2.getTextSize(line, FONT, scale, 1)
    reason = textwrap.wrap(decision.reason, max(len(line) * (width - 8) // text_px, 20))
    for row, text in enumerate([line, *reversed(reason)]):
        _draw_text(frame_bgr, text, (4, height - 6 - round(1.6 * row * line_px)), COLORS_BGR[decision.state], scale)
    return frame_bgr


def _draw_region(frame_bgr: Bytes, rect: Rect, verdict: Verdict, scale: float) -> None:
    color = COLORS_BGR[verdict.state]
    x0, y0, x1, y1 = rect
    cv2.rectangle(frame_bgr, (x0, y0), (x1 - 1, y1 - 1), color, max(1, round(3 * scale)))
    said = (
        f"{verdict.label} {verdict.prob:.0%}"
        if verdict.label is not None
        else verdict.why or str(verdict.state).lower()
    )
    _draw_text(frame_bgr, f"{verdict.name}: {said}", (x0 + 4, y0 + round(34 * scale) + 4), color, scale)


def _draw_text(frame_bgr: Bytes, text: str, corner: tuple[int, int], color: tuple[int, int, int], scale: float) -> None:
    # on a black plate: an outline, which is a thicker black copy below, hides the letters in OpenCV 5
    thickness = max(1, round(2 * scale))
    text = text.encode(errors="replace").decode()  # OpenCV 5 crashes at a lone surrogate
    (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    x, y = corner
    cv2.rectangle(frame_bgr, (x - 2, y - height - 2), (x + width + 1, y + below), (0, 0, 0), cv2.FILLED)
    cv2.putText(frame_bgr, text, corner, FONT, scale, color, thickness, cv2.LINE_AA)
