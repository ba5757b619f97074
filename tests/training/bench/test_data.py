"""The measurement of the data path: what it reports, and that both sides do the same work."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import torch

from tests.training.data.detection_sets import write_kitti
from training.bench.data_speed import _images_of_pack, measure
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

SIZES = {f"{i}.png": (120, 90) for i in range(20)}
BOXES = {name: [("car", (5, 5, 60, 50)), ("bus", (65, 20, 115, 80))] for name in SIZES}


def test_every_size_is_reported_with_the_twins_figures():
    rows = measure(sizes_px=(32, 40), rounds=1, batch=8)
    assert [row["size_px"] for row in rows] == [32, 40]
    assert all(row["images_per_s"] > 0 and row["twin_images_per_s"] > 0 and row["ratio"] > 0 for row in rows)
    assert all(row["images"] == "synthetic" for row in rows)


def test_threads_are_given_back():
    before = torch.get_num_threads(), cv2.getNumThreads()
    measure(sizes_px=(32,), rounds=1, batch=4)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_a_packs_crops_are_what_the_twin_reads(tmp_path):
    root = write_kitti(tmp_path / "set", SIZES, BOXES)
    made = write_pack(str(root), tmp_path / "pack", PackOptions(size_px=32, margin=0.0, background=0))
    row = measure(made, rounds=1, batch=8)[0]
    assert (row["size_px"], row["images"]) == (32, str(made.path))
    images_nhwc, jpegs = _images_of_pack(made, 32, 8)
    rows = np.random.default_rng(0).permutation(made.rows("train"))[:8]
    assert np.array_equal(images_nhwc, made.images_nhwc[rows])
    sizes = {cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).shape for jpeg in jpegs}
    assert sizes == {(45, 55, 3), (60, 50, 3)}
    shutil.rmtree(root)
    assert cv2.imdecode(np.frombuffer(_images_of_pack(made, 32, 8)[1][0], np.uint8), 1).shape == (32, 32, 3)
