"""The rows worth looking at: those the chosen model gets most wrong, and those that a precision flips."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from benchmarks.measure.accuracy import Predictions
from core.data.pack import Pack
from core.geometry.frame import Bytes

WORST = 24
FLIPPED = 12
SIDE_PX = 112
"""Pictures in the report are at most so large: it must stay under 5 MB."""


def list_worst(predictions: Predictions, pack: Pack) -> list[dict[str, Any]]:
    """Return the wrong test rows of which the model was surest, the surest first."""
    rows, tops = pack.rows("test"), predictions.probs_nc.max(1)
    wrong = np.flatnonzero(~predictions.correct_n)
    ordered = wrong[np.argsort(-tops[wrong], kind="stable")][:WORST]
    return [
        {
            "row": int(rows[i]),
            "source": str(pack.sources_n[rows[i]]),
            "label": pack.classes[predictions.labels_n[i]],
            "said": pack.classes[predictions.predicted_n[i]],
            "probability": float(tops[i]),
        }
        for i in ordered
    ]


def list_flipped(ladder: dict[str, list[dict[str, Any]]], pack: Pack) -> list[dict[str, Any]]:
    """Return test rows whose answer an exported file changed against torch, those of the most files first."""
    taken = pack.facts.get("taken_rows") or range(len(pack.labels_n))  # an archive for a device has the test rows alone
    place_of = {int(row): place for place, row in enumerate(taken)}
    rungs_of: dict[int, list[str]] = {}
    for arch, rungs in ladder.items():
        for rung in rungs:
            for row in rung["flipped"] if rung["split"] == "test" else ():
                if row not in place_of:
                    continue
                rungs_of.setdefault(place_of[row], []).append(f"{arch} {rung['name']}{_say_flip(rung, row, pack)}")
    ordered = sorted(rungs_of, key=lambda row: (-len(rungs_of[row]), row))[:FLIPPED]
    label = {row: pack.classes[pack.labels_n[row]] for row in ordered}
    return [
        {"row": row, "source": str(pack.sources_n[row]), "label": label[row], "flipped_by": rungs_of[row]}
        for row in ordered
    ]


def _say_flip(rung: dict[str, Any], row: int, pack: Pack) -> str:
    """Return what either side answered, " (car 52% -> bus 55%)"; nothing where an older export kept no answers."""
    flip = next((flip for flip in rung.get("flips", ()) if flip["row"] == row), None)
    if flip is None:
        return ""
    sides = [f"{pack.classes[side['class']]} {side['probability'] or 0:.0%}" for side in (flip["torch"], flip["file"])]
    return f" ({' -> '.join(sides)})"


def draw_rows(listed: list[dict[str, Any]], pack: Pack) -> dict[int, str]:
    """Return {row: its picture as a data URI}."""
    return {item["row"]: as_data_uri(pack.images_nhwc[item["row"]]) for item in listed}


def as_data_uri(image: Bytes) -> str:
    """Return an RGB picture as a PNG data URI. image: uint8 (S, S, 3)."""
    scale = min(1.0, SIDE_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    coded = cv2.imencode(".png", np.ascontiguousarray(small[..., ::-1]))[1]
    return "data:image/png;base64," + base64.b64encode(coded.tobytes()).decode("ascii")
