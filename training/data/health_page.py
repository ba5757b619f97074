"""Write a pack's health as one self-contained page: figures, duplicates, and a contact sheet of each class."""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.files import write_text
from core.geometry.frame import Bytes
from training.data.duplicates import DuplicatePair
from training.data.health import SIZE_EDGES_PX, Health

TEMPLATE = Path(__file__).parent / "templates" / "health.html.j2"
TILE_PX = 96
SHEET = (4, 10)
"""Rows and columns of a contact sheet."""
TILES = 2000
"""The largest number of pictures on a page, except that each class shows at least two."""
LISTED = 200
"""The largest number of rejected files on the page; pack.json names all."""


def write_page(file: Path, metadata: dict[str, Any], health: Health, images_nhwc: Bytes) -> None:
    """Write the page of a pack whose pack.json is `metadata`."""
    import jinja2  # imported only where a page is written

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        pack=metadata,
        health=metadata["health"],
        sizes=_size_names(),
        sheets={name: _sheet(images_nhwc, rows) for name, rows in _choose_rows(health).items()},
        pairs=_pairs(metadata["health"]["examples"], health.example_pairs(), images_nhwc),
        rejected=metadata["rejected"][:LISTED],
    )
    write_text(file, page)


def _pairs(examples: list[dict[str, Any]], pairs: list[DuplicatePair], images_nhwc: Bytes) -> list[dict[str, Any]]:
    """Return the examples of pack.json, each with a picture of both rows side by side."""
    rows = []
    for example, pair in zip(examples, pairs, strict=True):
        both = np.hstack([_tile(images_nhwc[pair.first]), _tile(images_nhwc[pair.second])])
        rows.append(example | {"picture": _picture(both)})
    return rows


def _size_names() -> list[str]:
    ends = [f"{low}-{high - 1}" for low, high in pairwise(SIZE_EDGES_PX)]
    return [*ends, f"{SIZE_EDGES_PX[-1]}+"]


def _choose_rows(health: Health) -> dict[str, list[int]]:
    """Return rows of each class, spread evenly over the pack."""
    rows_of: dict[str, list[int]] = {name: [] for name in health.classes}
    for index, row in enumerate(health.rows):
        rows_of[row.sample.label].append(index)
    most = min(SHEET[0] * SHEET[1], max(2, TILES // len(rows_of)))
    chosen = {}
    for name, rows in rows_of.items():
        count = min(len(rows), most)
        places = np.linspace(0, len(rows) - 1, count).round().astype(int)
        chosen[name] = [rows[index] for index in places]
    return chosen


def _sheet(images_nhwc: Bytes, rows: list[int]) -> str:
    """Return a contact sheet as a data URI."""
    if not rows:
        return ""
    columns = min(SHEET[1], len(rows))
    lines = -(-len(rows) // columns)  # rounded up
    sheet = np.full((lines, columns, TILE_PX, TILE_PX, 3), 255, np.uint8)
    for index, row in enumerate(rows):
        sheet[divmod(index, columns)] = _tile(images_nhwc[row])
    # (lines, columns, y, x, RGB) -> (lines, y, columns, x, RGB): the pixel rows of neighbors join
    return _picture(sheet.transpose(0, 2, 1, 3, 4).reshape(lines * TILE_PX, -1, 3))


def _tile(image_rgb: Bytes) -> Bytes:
    return np.asarray(cv2.resize(image_rgb, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _picture(image_rgb: Bytes) -> str:
    """Return a JPEG as a data URI: the page is one file, which can be sent on."""
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
