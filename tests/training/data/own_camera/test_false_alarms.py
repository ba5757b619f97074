"""A drive that the runner recorded gives its false alarms to a pack: the very regions, each left one counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.data.recording import read_decisions, segments_of
from core.errors import InputError
from core.geometry.preprocess import fill
from inference.capture.base import EndOfStream
from inference.commands.run import read_arguments, run_from_args
from inference.sources import open_source
from tests.bundles import make_bundle
from tests.inference.runner.test_region_choice import write_detector
from tests.training.data.detection_sets import write_images, write_kitti
from training.data.importers import read_listing
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

FRAMES = 8
CAMERA = {"zones": {"left": [0.0, 0.2, 0.5, 0.9], "ego": [0.5, 0.2, 1.0, 1.0]}, "rotation": 180}


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    """A drive of the synthetic camera, upside down, recorded by a runner that says `car` of both zones all the time."""
    folder = tmp_path_factory.mktemp("drive")
    bundle = make_bundle(folder / "bundle", classes=("clear", "truck", "car"), background="clear")
    (folder / "camera.json").write_text(json.dumps(CAMERA))
    source = f"synthetic://?frames={FRAMES}&width=160&height=120&scenario=day"
    record = ("--record", folder / "record", "--record-lossless", "--out", folder / "out", "--no-overlay")
    arguments = (bundle.path, "--source", source, "--camera", folder / "camera.json", *record)
    run_from_args(read_arguments([*map(str, arguments)]))
    return folder


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder data set of two classes, 12 pictures each."""
    for name in ("bus", "car"):
        write_images(tmp_path / "set" / name, {f"{name}{i}.png": (60 + i, 50) for i in range(12)})
    return tmp_path / "set"


def decisions(drive) -> list[dict]:
    return [json.loads(line) for line in (drive / "out" / "decisions.jsonl").read_text().splitlines()]


def recorded(drive) -> dict[int, np.ndarray]:
    pictures, source = {}, open_source(f"replay://{drive / 'record'}")
    try:
        while True:
            frame = source.read(1.0)
            pictures[frame.frame_id] = frame.image_bgr
    except EndOfStream:
        return pictures
    finally:
        source.close()


def options(drive, tmp_path, ranges: str | None = None, **more) -> PackOptions:
    if ranges is not None:
        (tmp_path / "false.csv").write_text(ranges)
        more["false_alarms"] = tmp_path / "false.csv"
    return PackOptions(size_px=32, background_from=drive / "record", **more)


def rects(listing) -> list[tuple[int, ...]]:
    return sorted(sample.box for sample in listing.samples if sample.unmarked)


def test_a_row_is_what_the_network_was_shown_in_the_drive(drive, source, tmp_path):
    wanted = options(drive, tmp_path, "first,last,region\n2,3,left\n5,5,\n")
    pack = write_pack(str(source), tmp_path / "pack", wanted)
    pictures, expected = recorded(drive), set()
    for line in decisions(drive):
        for name, verdict in line["zones"].items():
            if (line["frame"] in (2, 3) and name == "left") or line["frame"] == 5:
                out_nhwc = pack.geometry.empty(1)
                fill(out_nhwc, pictures[line["frame"]], [tuple(verdict["rect"])], pack.geometry)
                expected.add(out_nhwc.tobytes())
    background = np.flatnonzero(pack.labels_n == pack.classes.index("background"))
    assert {pack.images_nhwc[row].tobytes() for row in background} == expected
    assert len(background) == len(expected) == 4


def test_of_a_drive_without_objects_half_the_background_is_false_alarms(drive, source, tmp_path):
    listing = read_listing(str(source), options(drive, tmp_path))
    said = {tuple(zone["rect"]) for line in decisions(drive) for zone in line["zones"].values()}
    assert len(rects(listing)) == 12
    assert sum(rect in said for rect in rects(listing)) >= 6
    assert any(rect not in said for rect in rects(listing))
    assert f"left out: {2 * FRAMES - 6} of {2 * FRAMES} regions that were given a class" in listing.warnings


def test_a_recording_with_named_regions_is_said_to_be_taken_as_empty_road(drive, source, tmp_path):
    listing = read_listing(str(source), options(drive, tmp_path))
    (warning,) = [warning for warning in listing.warnings if "taken as empty road" in warning]
    assert "(6 regions that were given a class become background): if objects were there" in warning
    listed = read_listing(str(source), options(drive, tmp_path, "first,last\n0,1\n"))
    assert not [warning for warning in listed.warnings if "taken as empty road" in warning]


def test_a_recording_behind_a_detector_tells_how_many_boxes_it_found(drive, source, tmp_path):
    bundle, detector = drive / "bundle", write_detector(tmp_path / "d.onnx")
    film = f"synthetic://?frames={FRAMES}&width=160&height=120&scenario=day"
    behind = ("--detector", detector, "--record", tmp_path / "boxes")
    run_from_args(read_arguments([*map(str, (bundle, "--source", film, *behind))]))
    listing = read_listing(str(source), PackOptions(size_px=32, background_from=tmp_path / "boxes"))
    boxes = sum(len(line.body["zones"]) for line in read_decisions(tmp_path / "boxes"))
    assert boxes >= FRAMES
    assert any(f"its detector found {boxes} boxes): if objects were there" in text for text in listing.warnings)


def test_what_is_left_out_is_counted(drive, source, tmp_path):
    (source / "car").rename(source / "van")
    listing = read_listing(str(source), options(drive, tmp_path))
    assert f"left out: {2 * FRAMES} regions that were called car, no class of this pack" in listing.warnings
    (source / "van").rename(source / "car")
    listing = read_listing(str(source), options(drive, tmp_path, "first,last\n0,1\n90,99\n"))
    assert len(rects(listing)) == 4
    assert f"left out: 1 ranges of {tmp_path / 'false.csv'} without a class, first number 2" in listing.warnings


def test_damaged_lines_are_counted_and_the_first_is_named(drive, source, tmp_path):
    damaged = tmp_path / "record"
    damaged.mkdir()
    for file in (drive / "record").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    lines = segments_of(damaged)[0].read_bytes().splitlines(keepends=True)
    segments_of(damaged)[0].write_bytes(b"".join([*lines[:3], lines[3][:40] + b"\n", *lines[4:]]))
    listing = read_listing(str(source), PackOptions(background_from=damaged, background=40))
    named = f"left out: 1 damaged frames of {damaged}, first {segments_of(damaged)[0]}, line 4"
    assert named in listing.warnings


def test_in_a_source_that_is_split_listed_false_alarms_are_learned_from(drive, tmp_path):
    for split in ("train", "val", "test"):
        for name in ("bus", "car", "background"):
            write_images(tmp_path / "set" / split / name, {f"{split}{name}{i}.png": (60, 50 + i) for i in range(6)})
    listing = read_listing(str(tmp_path / "set"), options(drive, tmp_path, "first,last\n0,7\n"))
    assert {sample.split for sample in listing.samples if sample.unmarked} == {"train"}
    assert listing.background == "background"


def test_pictures_with_boxes_take_listed_false_alarms(drive, tmp_path):
    root = write_kitti(tmp_path / "kitti", {"a.png": (200, 100)}, {"a.png": [("car", (10, 10, 60, 60))]})
    wanted = options(drive, tmp_path, "first,last\n4,4\n", background=2)
    listing = read_listing(str(root), wanted)
    assert sum("jsonl#" in sample.source and sample.label == "background" for sample in listing.samples) == 2
    assert listing.load(next(s.source for s in listing.samples if "jsonl#" in s.source)).shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ("first,last\n70,80\n", "lists no region"),
        ("frame\n3\n", "has the columns"),
        ("first,last\n5,3\n", "line 2: first,last is 5,3"),
        ("first,last\nx,3\n", "line 2"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_sentence(drive, source, tmp_path, ranges, said):
    with pytest.raises(InputError, match=said):
        read_listing(str(source), options(drive, tmp_path, ranges))


def test_a_list_needs_a_recording(source, tmp_path):
    write_images(tmp_path / "frames", {"a.png": (160, 120)})
    with pytest.raises(InputError, match="is no recording"):
        read_listing(str(source), PackOptions(background_from=tmp_path / "frames", false_alarms=tmp_path / "f.csv"))
    with pytest.raises(InputError, match="--background-from"):
        PackOptions(false_alarms=Path("f.csv"))
