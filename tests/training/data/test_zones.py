"""Zones that are learned as zones: each is the class of what stands in it, and what is unclear is no row."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.data.labeled_frames import read_frames
from core.errors import InputError
from core.geometry.occupancy import is_empty, occupant
from core.geometry.preprocess import Geometry, fill
from core.synthetic import ZONES
from tests.training.data.detection_sets import WRITERS, write_kitti, write_kitti_labels
from training.data.importers import read_listing
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

LEFT, RIGHT = (0, 0, 100, 100), (100, 0, 200, 100)
HALVES = {"zones": {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}}
SIZES = {f"{i}.png": (200, 100) for i in range(9)}


@pytest.fixture
def camera(tmp_path) -> Path:
    file = tmp_path / "camera.json"
    file.write_text(json.dumps(HALVES))
    return file


def zones(root: Path, camera: Path, **options) -> dict[tuple[str, tuple], str]:
    listing = read_listing(str(root), PackOptions(size_px=32, resplit=True, as_zones=camera, **options))
    return {(Path(s.source).name, s.box): s.label for s in listing.samples}


@pytest.mark.parametrize("layout", WRITERS)
def test_a_zone_is_the_class_of_what_fills_it_most(tmp_path, camera, layout):
    boxes = {
        "0.png": [("car", (0, 0, 30, 30)), ("bus", (20, 20, 90, 90))],
        "1.png": [("person", (140, 10, 160, 60))],
        "2.png": [("car", (40, 0, 160, 100))],
    }
    found = zones(WRITERS[layout](tmp_path / "set", SIZES, boxes), camera, background=99)
    assert found["0.png", LEFT] == "bus"
    assert found["0.png", RIGHT] == "background"
    assert (found["1.png", LEFT], found["1.png", RIGHT]) == ("background", "person")
    assert (found["2.png", LEFT], found["2.png", RIGHT]) == ("car", "car")


def test_a_zone_with_a_part_of_an_object_or_one_to_ignore_is_no_row(tmp_path, camera):
    boxes = {
        "0.png": [("car", (10, 10, 50, 50))],
        "1.png": [("car", (30, 10, 108, 50))],  # of the right zone 3%, a tenth of the car
        "2.png": [("bus", (110, 10, 190, 90)), ("car", (10, 10, 50, 50))],
    }
    root = write_kitti(tmp_path / "set", SIZES, boxes)
    (tmp_path / "map.csv").write_text("class,becomes\ncar,car\nbus,\n")
    found = zones(root, camera, background=99, classes=str(tmp_path / "map.csv"))
    assert found["1.png", LEFT] == "car"
    assert ("1.png", RIGHT) not in found
    assert ("2.png", RIGHT) not in found
    assert found["0.png", RIGHT] == "background"


def test_a_picture_whose_annotation_is_odd_or_missing_gives_no_zone(tmp_path, camera):
    root = write_kitti(tmp_path / "set", SIZES, {"0.png": [("car", (10, 10, 50, 50))]})
    labels = root / "training" / "label_2"
    write_kitti_labels(labels / "1.txt", [("car", (10, 10, 50, 50))])
    (labels / "1.txt").write_text((labels / "1.txt").read_text() + "car 1 2\n")
    (labels / "2.txt").unlink()
    assert {name for name, _ in zones(root, camera, background=99)} == set(SIZES) - {"1.png", "2.png"}
    frames = read_listing(str(root), PackOptions(size_px=32, resplit=True)).frames
    assert {Path(frame.source).name for frame in frames} == set(SIZES) - {"1.png", "2.png"}


@pytest.mark.parametrize(("asked", "kept"), [(None, 2), (0, 0), (5, 5)])
def test_background_is_as_much_as_all_objects_unless_told(tmp_path, camera, asked, kept):
    boxes = {"0.png": [("car", (10, 10, 50, 50))], "1.png": [("bus", (10, 10, 50, 50))]}
    found = zones(write_kitti(tmp_path / "set", SIZES, boxes), camera, background=asked)
    assert sum(label == "background" for label in found.values()) == kept


def test_rows_are_cut_by_the_one_preprocessing_and_the_groups_hold(tmp_path):
    file = tmp_path / "camera.json"
    file.write_text(json.dumps({"zones": {name: list(zone) for name, zone in ZONES.items()}}))
    made = write_pack("synthetic://?frames=90", tmp_path / "pack", PackOptions(size_px=32, as_zones=file))
    frames = {frame.source: frame for split in ("train", "val", "test") for frame in read_frames(made, split)}
    groups: dict[str, set[str]] = {}
    for row, source in enumerate(made.sources_n):
        frame, box = frames[source], made.boxes_n[row]
        boxes = [labeled.box for labeled in frame.objects]
        at = occupant(box, boxes, fixed=True)
        label = frame.objects[at].label if at is not None else "clear"
        assert made.classes[made.labels_n[row]] == label
        assert at is not None or is_empty(box, boxes)
        groups.setdefault(frame.group, set()).add(frame.split)
    assert all(len(splits) == 1 for splits in groups.values())
    from core.data.labeled_frames import load_frame

    expected = Geometry(32).empty(1)
    fill(expected, load_frame(made, frames[made.sources_n[0]]), [made.boxes_n[0]], Geometry(32))
    assert np.array_equal(made.images_nhwc[0], expected[0])


def test_what_packing_leaves_out_is_kept_to_be_ignored(tmp_path):
    boxes = {
        name: [("car", (10, 10, 90, 90)), ("bus", (110, 10, 190, 90)), ("person", (2, 2, 8, 40))] for name in SIZES
    }
    made = write_pack(str(write_kitti(tmp_path / "set", SIZES, boxes)), tmp_path / "pack", PackOptions(size_px=32))
    objects = [labeled for frame in read_frames(made, "test") for labeled in frame.objects]
    assert {(labeled.label, labeled.ignored) for labeled in objects} == {
        ("car", None),
        ("bus", None),
        ("person", "smaller than 12 px"),
    }
    assert made.metadata["frames"] == {"schema": 1, "frames": 9, "objects": 27, "ignored": 9}


def test_frames_of_one_picture_go_into_one_split_with_their_groups(tmp_path):
    boxes = {name: [("car", (0, 0, 90, 90)), ("bus", (110, 10, 190, 90))] for name in SIZES}
    root = write_kitti(tmp_path / "set", SIZES, boxes)
    images = root / "training" / "image_2"
    for name in list(SIZES)[1:5]:
        cv2.imwrite(str(images / name), cv2.imread(str(images / "0.png")))
    made = write_pack(str(root), tmp_path / "pack", PackOptions(size_px=32, background=0))
    same = {
        (frame.split, frame.group)
        for split in ("train", "val", "test")
        for frame in read_frames(made, split)
        if Path(frame.source).name in list(SIZES)[:5]
    }
    assert len(same) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "has no zones"),
        (HALVES | {"rotation": 90}, "label upright frames"),
        (HALVES | {"crop": [0, 0, 0.5, 1]}, "label upright frames"),
        (HALVES | {"mirror_for_network": True}, "label upright frames"),
    ],
)
def test_a_camera_without_zones_or_that_turns_the_picture_is_refused(tmp_path, camera, body, said):
    root = write_kitti(tmp_path / "set", SIZES, {"0.png": [("car", (10, 10, 50, 50))]})
    camera.write_text(json.dumps(body))
    with pytest.raises(InputError, match=said):
        zones(root, camera)


def test_a_folder_of_crops_has_no_zones(tmp_path, camera):
    for name in ("bus", "car"):
        (tmp_path / "set" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / name / "0.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match="holds no labeled frames"):
        zones(tmp_path / "set", camera)
