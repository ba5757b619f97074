"""What another library wrote, or a hand has spoilt since: each crop is that of its box, or it is told what is not."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data.detection_sets import NAMES, refused, write_kitti
from training.data.importers import read_listing
from training.data.listing import PackOptions

WIDTH, HEIGHT = 320, 200
OPTIONS = PackOptions(margin=0.0, min_side_px=1, background=0)
SPOILT = ("x", "nan", "inf", "None", "٣", "0x1", "1_0", "1,5", "--")
"""In the place of a number: none of these is one."""
FAR = ("-1", "1e9", "99999999999999999999")
"""No parts of a side, which are 0 to 1; in pixels they would only be over the edge."""


@st.composite
def annotated(draw) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Return boxes of whole pixels for two or three pictures, at least one box in all."""

    def box() -> tuple[str, tuple[float, ...]]:
        x, y = draw(st.integers(0, WIDTH - 2)), draw(st.integers(0, HEIGHT - 2))
        x1, y1 = draw(st.integers(x + 1, WIDTH)), draw(st.integers(y + 1, HEIGHT))
        return draw(st.sampled_from(NAMES)), (float(x), float(y), float(x1), float(y1))

    counts = draw(st.lists(st.integers(0, 4), min_size=2, max_size=3).filter(any))
    return {f"picture {i}.png": [box() for _ in range(n)] for i, n in enumerate(counts)}


def write_by_supervision(root: Path, kind: str, boxes: dict) -> Path:
    """Write a set by the library's own writer; return what is to be imported."""
    import supervision as sv

    (root / "source").mkdir()
    annotations = {}
    for name, found in boxes.items():
        file = str(root / "source" / name)
        cv2.imwrite(file, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        xyxy = np.array([xyxy for _, xyxy in found], np.float32).reshape(-1, 4)
        annotations[file] = sv.Detections(xyxy=xyxy, class_id=np.array([NAMES.index(n) for n, _ in found], int))
    made = sv.DetectionDataset(classes=list(NAMES), images=list(annotations), annotations=annotations)
    if kind == "coco":
        made.as_coco(str(root / "images"), str(root / "annotations.json"))
    elif kind == "voc":
        made.as_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    else:
        made.as_yolo(str(root / "images"), str(root / "labels"), str(root / "data.yaml"))
    (root / "source").rename(root.with_name("source"))
    return root


def write(root: Path, kind: str, boxes: dict) -> Path:
    root.mkdir()
    if kind == "kitti":
        return write_kitti(root, dict.fromkeys(boxes, (WIDTH, HEIGHT)), boxes)
    return write_by_supervision(root, kind, boxes)


def crops_of(listing) -> Counter:
    return Counter((Path(s.source).name, s.label, s.box) for s in listing.samples)


def wanted(boxes: dict) -> Counter:
    return Counter((name, label, tuple(map(int, xyxy))) for name, found in boxes.items() for label, xyxy in found)


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "kitti"])
@given(boxes=annotated())
@settings(max_examples=15)
def test_the_crops_are_those_of_the_boxes(kind, boxes):
    with tempfile.TemporaryDirectory() as folder:
        listing = read_listing(str(write(Path(folder, "set"), kind, boxes)), OPTIONS)
    assert crops_of(listing) == wanted(boxes)
    assert listing.skipped == {}


def spoil(root: Path, kind: str, data: st.DataObject) -> None:
    """Put something odd in the place of one number of one annotation."""
    odd = data.draw(st.sampled_from(SPOILT + FAR * (kind == "yolo")))
    if kind == "coco":
        spoil_json(root / "annotations.json", data, odd)
        return
    edges = "<bndbox>" if kind == "voc" else ""
    files = [f for f in sorted(root.rglob("*.xml" if edges else "*.txt")) if edges in (text := f.read_text()) and text]
    file = data.draw(st.sampled_from(files))
    lines = file.read_text().split("\n")
    at = data.draw(st.sampled_from([i for i, line in enumerate(lines) if ("max>" in line if edges else line)]))
    if kind == "voc":
        lines[at] = re.sub(r">\d+<", f">{odd}<", lines[at])
    else:
        words = lines[at].split()
        words[data.draw(st.sampled_from([4, 5, 6, 7] if kind == "kitti" else [0, 1, 2, 3, 4]))] = odd
        lines[at] = " ".join(words)
    file.write_text("\n".join(lines))


def spoil_json(file: Path, data: st.DataObject, odd: str) -> None:
    body = json.loads(file.read_text())
    annotation = data.draw(st.sampled_from(body["annotations"]))
    value = data.draw(st.sampled_from([odd, None, [], {}, float("nan"), float("inf"), True]))
    key = data.draw(st.sampled_from(["image_id", "category_id", "bbox", 0, 1, 2, 3]))
    if isinstance(key, int):
        annotation["bbox"][key] = value
    else:
        annotation[key] = data.draw(st.sampled_from([value, -1, 1.5, 10**30]))
    file.write_text(json.dumps(body))


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "kitti"])
@given(boxes=annotated(), data=st.data())
@settings(max_examples=25)
def test_a_spoilt_number_gives_no_wrong_crop(kind, boxes, data):
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder, "set"), kind, boxes)
        spoil(root, kind, data)
        if wanted(boxes).total() == 1:
            refused(root, "none of its boxes can be used (1 ", OPTIONS)
            return
        listing = read_listing(str(root), OPTIONS)
    found, meant = crops_of(listing), wanted(boxes)
    assert found <= meant
    assert meant.total() - found.total() == sum(listing.skipped.values()) == 1
    assert listing.skipped.keys() == listing.first_skipped.keys()
