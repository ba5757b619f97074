"""A detection data set through the runner, full frame and rectangle, scores what its packed crops score."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from core.errors import InputError
from inference.backends import open_backend
from inference.commands.run import read_arguments, run_from_args
from inference.frame.boxes import read_boxes
from tests.bundles import make_bundle
from tests.inference.sources.videos import noise
from tests.training.data.detection_sets import NAMES, write_yolo
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

SHARED = Path(__file__).parents[4] / "shared" / "data" / "detection_yolo"


def score_both(data, folder):
    """Return the lines of the runner on a data set with its pack's boxes, its accuracy, and the pack's own."""
    packed = write_pack(
        str(data), folder / "pack", PackOptions(size_px=32, group=None, allow_leaks=True, resplit=True, processes=1)
    )
    bundle = make_bundle(folder / "bundle", classes=packed.classes, background=packed.background)
    rows = packed.rows("test")
    backend, right = open_backend("ort", bundle, "fp32"), 0
    for row in rows:
        backend.input_nhwc[0] = packed.images_nhwc[row]
        right += int(backend.infer(1)[0].argmax()) == packed.labels_n[row]
    arguments = [bundle.path, "--source", data, "--boxes", packed.path, "--precision", "fp32", "--no-overlay"]
    arguments += ["--record", folder / "recording", "--record-lossless"]
    summary = run_from_args(read_arguments([str(a) for a in [*arguments, "--out", folder / "out"]]))
    lines = [json.loads(line) for line in (folder / "out" / "decisions.jsonl").open()]
    again = [bundle.path, "--source", f"replay://{folder / 'recording'}", "--boxes", packed.path, "--precision", "fp32"]
    assert run_from_args(read_arguments([str(a) for a in again]))["accuracy"] == summary["accuracy"]
    return lines, summary["accuracy"], len(rows), right


def check(data, folder):
    lines, accuracy, rows, right = score_both(data, folder)
    assert accuracy["regions"] == rows
    assert accuracy["raw"] == round(right / rows, 4)
    assert sum(len(line["zones"]) for line in lines) == rows
    assert 0 < right < rows  # else any two models would score the same
    return rows


def test_the_accuracy_through_the_runner_is_that_of_the_packed_crops(tmp_path):
    names = [f"{i:02d}.png" for i in range(24)]
    boxes = {
        name: [(NAMES[(i + k) % 3], (10.0 + 70 * k, 8.0 + i, 70.0 + 70 * k, 60.0 + 2 * i)) for k in range(3)]
        for i, name in enumerate(names)
    }
    assert check(write_yolo(tmp_path / "yolo", dict.fromkeys(names, (240, 160)), boxes), tmp_path) >= 6


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_so_it_is_on_real_streets(tmp_path):
    assert check(SHARED, tmp_path) >= 20


def test_a_pack_without_boxes_is_refused(tmp_path):
    for i in range(24):
        file = tmp_path / "photos" / ("car", "bus")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), noise(i))
    write_pack(str(tmp_path / "photos"), tmp_path / "pack", PackOptions(size_px=32, processes=1))
    with pytest.raises(InputError, match="no boxes"):
        read_boxes(tmp_path / "pack")
