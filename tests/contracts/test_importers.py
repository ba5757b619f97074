"""The contract of an importer, checked on every one that is found by name.

Each reads what a writer of its format wrote. A new importer needs a line in WRITERS, and nothing else here.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.cli import run_command
from core.data.pack import Pack
from core.data.picture_files import IMAGE_SUFFIXES
from core.errors import InputError
from tests.training.data import detection_sets
from tests.training.data.detection_sets import BOXES, SIZES, write_images
from training.commands import pack as command
from training.data.importers import find_importer, importer_names, read_listing
from training.data.listing import Listing, PackOptions
from training.data.pack_writer import write_pack

OPTIONS = PackOptions(size_px=32, resplit=True, background=0)
TINY = ("car", (5.0, 5.0, 10.0, 10.0))
OBJECTS = {name: [*boxes, TINY] if name == "drive0_1.png" else boxes for name, boxes in BOXES.items()}
"""What is annotated in each picture; one object is smaller than `min_side_px`."""
SYNTHETIC_ROWS = 60


def write_folder(root: Path, sizes: dict, boxes: dict) -> Path:
    """Write each object as a picture in the folder of its class."""
    write_images(root.with_name("frames"), sizes)
    for name, objects in boxes.items():
        frame = cv2.imread(str(root.with_name("frames") / name))
        for number, (label, (x0, y0, x1, y1)) in enumerate(objects):
            (root / label).mkdir(parents=True, exist_ok=True)
            file = root / label / f"{Path(name).stem}_{number}.png"
            cv2.imwrite(str(file), frame[int(y0) : int(y1), int(x0) : int(x1)])
    return root


WRITERS = {**detection_sets.WRITERS, "folder": write_folder}


@dataclass(frozen=True)
class Source:
    """A source that one importer reads, and the number of objects that it shows."""

    importer: str
    path: str
    objects: int

    def read(self, options: PackOptions = OPTIONS) -> Listing:
        return read_listing(self.path, replace(options, format=self.importer))

    def pictures(self) -> list[Path]:
        return [file for file in sorted(Path(self.path).rglob("*.*")) if file.suffix in IMAGE_SUFFIXES]


def written(name: str, folder: Path) -> Source:
    if name == "synthetic":
        return Source(name, f"synthetic://?rows={SYNTHETIC_ROWS}", SYNTHETIC_ROWS)
    root = WRITERS[name](folder / name, SIZES, OBJECTS)
    return Source(name, str(root), sum(map(len, OBJECTS.values())))


@pytest.fixture(scope="module", params=importer_names())
def source(request, tmp_path_factory) -> Source:
    """A source that no test changes."""
    return written(request.param, tmp_path_factory.mktemp("importer"))


@pytest.fixture(params=sorted(set(importer_names()) - {"synthetic"}))
def files(request, tmp_path) -> Source:
    """A source made of files, which a test may spoil."""
    return written(request.param, tmp_path)


def test_it_is_found_by_the_layout_of_the_source(source):
    assert find_importer(source.path).__name__.rpartition(".")[2] == source.importer
    assert source.read().importer == source.importer


def test_each_row_is_complete(source):
    listing = source.read(replace(OPTIONS, background=None))
    assert len(set(listing.classes)) == len(listing.classes)
    assert {sample.label for sample in listing.samples} == set(listing.classes)
    assert listing.background in {None, *listing.classes}
    assert len({(sample.source, sample.box) for sample in listing.samples}) == len(listing.samples)
    for sample in listing.samples:
        assert sample.group
        assert sample.split is None
        assert "\\" not in sample.source


def test_each_row_is_decoded_in_any_process_and_its_box_lies_inside(source):
    listing = source.read(replace(OPTIONS, background=None))
    load = pickle.loads(pickle.dumps(listing.load))
    for sample in listing.samples:
        frame = load(sample.source)
        assert (frame.dtype, frame.ndim, frame.shape[2]) == (np.uint8, 3, 3)
        height, width = frame.shape[:2]
        assert sample.frame_wh in (None, (width, height))
        x0, y0, x1, y1 = sample.box or (0, 0, width, height)
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_rows_of_one_picture_share_its_group(source):
    groups = {(sample.source, sample.group) for sample in source.read().samples}
    assert len(groups) == len({name for name, _ in groups})


def number_left_out(made: Pack) -> int:
    return len(made.metadata["rejected"]) + sum(made.metadata["skipped"].values())


def test_every_object_is_a_row_or_is_counted_and_named(source, tmp_path):
    made = write_pack(source.path, tmp_path / "pack", OPTIONS)
    left_out = [*(file["source"] for file in made.metadata["rejected"]), *made.metadata["first_skipped"].values()]
    assert len(left_out) == number_left_out(made) == (source.importer != "synthetic")
    assert all("drive0_1" in name for name in left_out)
    assert len(made.labels_n) + len(left_out) == source.objects


def test_a_damaged_picture_is_rejected_by_name(files, tmp_path):
    picture = next(file for file in files.pictures() if "drive0_0" in file.name)
    picture.write_bytes(picture.read_bytes()[:-30])
    made = write_pack(files.path, tmp_path / "pack", OPTIONS)
    rejected = {(r["source"].rpartition("/")[2], r["reason"]) for r in made.metadata["rejected"]}
    assert (picture.name, "truncated PNG") in rejected
    assert len(made.labels_n) + number_left_out(made) == files.objects


class ReversedScan(AbstractContextManager, Iterator):
    """Stands in for `os.scandir` and gives the entries in the reverse order of their names."""

    def __init__(self, path: str | Path = ".") -> None:
        with os_scandir(path) as entries:
            self.entries = sorted(entries, key=lambda entry: entry.name)

    def __next__(self) -> os.DirEntry:
        if not self.entries:
            raise StopIteration
        return self.entries.pop()

    def __exit__(self, *_: object) -> None:
        pass


os_scandir = os.scandir


def test_the_listing_does_not_depend_on_the_order_of_the_file_system(source, monkeypatch):
    def listed() -> Listing:
        return replace(source.read(replace(OPTIONS, background=None)), load=str)

    expected = listed()
    monkeypatch.setattr(os, "scandir", ReversedScan)
    monkeypatch.setattr(os, "listdir", lambda path=".": [entry.name for entry in ReversedScan(path)])
    assert listed() == expected


def test_a_pattern_names_the_groups(files):
    listing = files.read(replace(OPTIONS, group=r"drive\d+|empty"))
    assert {sample.group for sample in listing.samples} == {f"drive{drive}" for drive in range(6)}
    with pytest.raises(InputError, match="does not match the group pattern 'ship'"):
        files.read(replace(OPTIONS, group="ship"))


def test_a_class_map_merges_and_drops_with_a_count(files, tmp_path):
    (tmp_path / "map.csv").write_text("class,becomes\ncar,vehicle\nbus,vehicle\nperson,\n")
    listing = files.read(replace(OPTIONS, classes=str(tmp_path / "map.csv"), min_side_px=1))
    assert listing.classes == ("vehicle",)
    persons = sum(label == "person" for objects in OBJECTS.values() for label, _ in objects)
    assert listing.skipped == {"person: dropped by the class map": persons}
    assert len(listing.samples) + sum(listing.skipped.values()) == files.objects


@pytest.fixture
def refused(tmp_path, caplog, monkeypatch):
    """Return a function that asserts that packing ends with exit code 2 and one sentence, and returns the sentence."""

    def run(source: str, importer: str, *options: str) -> str:
        caplog.clear()
        arguments = [source, "--out", str(tmp_path / "pack"), "--format", importer, *options]
        monkeypatch.setattr(sys, "argv", ["pack", *arguments])
        assert run_command(lambda: command.main(arguments)) == 2
        (said,) = (record.message for record in caplog.records if record.levelname == "CRITICAL")
        assert "\n" not in said
        assert len(said) < 500
        assert not (tmp_path / "pack").exists()
        return said

    return run


@pytest.mark.parametrize("kind", ["missing", "an empty folder", "a file", "class folders"])
def test_a_source_of_another_kind_is_refused_by_name(kind, source, tmp_path, refused):
    other = tmp_path / "other"
    if kind == "an empty folder":
        other.mkdir()
    elif kind == "a file":
        other.write_bytes(b"\xff\xfe\x00 no data set")
    elif kind == "class folders":
        if source.importer == "folder":
            pytest.skip("class folders are what it reads")
        write_folder(other, SIZES, BOXES)
    assert str(other) in refused(str(other), source.importer)


def test_a_source_without_a_readable_picture_is_refused_by_name(files, refused):
    for picture in files.pictures():
        picture.write_bytes(b"not a picture")
    assert files.path in refused(files.path, files.importer)


def test_a_source_whose_annotations_are_all_unreadable_is_refused_by_name(files, refused):
    if files.importer == "folder":
        pytest.skip("a folder of class folders has no annotations")
    pictures = files.pictures()
    for file in Path(files.path).rglob("*.*"):
        if file.is_file() and file not in pictures:
            file.write_bytes(b"\xff\xfe\x00 no annotation")
    assert files.path in refused(files.path, files.importer)


def test_an_option_that_an_importer_cannot_follow_is_refused(refused):
    """The synthetic set has classes and groups of its own; the others follow these options, as seen above."""
    for option, value in (("--group", "x"), ("--classes", "kitti"), ("--group-csv", "groups.csv")):
        assert option in refused("synthetic", "synthetic", option, value)
