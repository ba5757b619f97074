"""KITTI's objects and its tracking form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.data.detection_sets import BOXES, OPTIONS, SIZES, crops, left_out, refused, write_images
from tests.training.data.detection_sets import write_kitti as write
from training.data.importers import read_listing
from training.data.listing import PackOptions

LINES = {
    "fourteen fields": "Car 0 0 0 1 1 50 50 1 1 1 1 1 1",
    "words": "Car 0 0 0 1 1 x 50 1 1 1 1 1 1 0",
    "not a number": "Car 0 0 0 nan 1 50 50 1 1 1 1 1 1 0",
    "turned box": "Car 0 0 0 50 1 1 50 1 1 1 1 1 1 0",
}


@pytest.mark.parametrize("name", LINES)
def test_an_odd_line_is_left_out_counted_and_named(tmp_path, name):
    root = write(tmp_path, SIZES, BOXES)
    with (root / "training" / "label_2" / "drive0_0.txt").open("a") as stream:
        stream.write(LINES[name])
    left_out(root, "malformed", "drive0_0.txt, line 3 (")


def test_what_has_no_partner_is_told(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    (root / "training" / "label_2" / "drive0_0.txt").unlink()
    (root / "training" / "image_2" / "drive0_1.png").unlink()
    listing = read_listing(str(root), OPTIONS)
    assert listing.skipped == {"of a picture that is not there": 2}
    assert "drive0_1.txt" in listing.first_skipped["of a picture that is not there"]
    said = "pictures without a label file: 1, the first training/image_2/drive0_0.png"
    assert any(line.startswith(said) for line in listing.warnings)
    assert not [s for s in listing.samples if s.source.endswith("drive0_0.png")]


def write_tracking(root: Path) -> Path:
    """Write two drives of three frames; frame n of drive d has a car at 10 * n and 20 * d, frame 2 has none."""
    (root / "training" / "label_02").mkdir(parents=True)
    for drive in range(2):
        write_images(root / "training" / "image_02" / f"{drive:04d}", {f"{n:06d}.png": (200, 150) for n in range(3)})
        lines = [
            f"{n} 0 Car 0 0 -1.57 {10 * n}.0 {20 * drive}.0 {10 * n + 50}.0 {20 * drive + 40}.0 1 1 3 2 1 9 -1\n"
            for n in range(2)
        ]
        text = "".join(lines) + "0 -1 DontCare -1 -1 -10 100 0 150 60 -1000 -1000 -1000 -10 -1 -1 -1\n"
        (root / "training" / "label_02" / f"{drive:04d}.txt").write_text(text)
    return root


def test_the_tracking_form(tmp_path):
    root = write_tracking(tmp_path)
    listing = read_listing(str(root), PackOptions(margin=0.0))
    assert {(s.source[-15:-4], s.box, s.group[-4:]) for s in listing.samples if not s.unmarked} == {
        (f"{d:04d}/{n:06d}", (10 * n, 20 * d, 10 * n + 50, 20 * d + 40), f"{d:04d}") for d in range(2) for n in range(2)
    }
    assert listing.skipped == {"don't care": 2}
    assert read_listing(str(root), PackOptions(group=r"(\d+)")).samples[0].group == "000000"
    labels = root / "training" / "label_02" / "0000.txt"
    labels.write_text(
        labels.read_text().replace("0 0 Car 0 0", "0 0 Car 2 0") + "7 1 Car 0 0 0 1 1 50 50 1 1 1 1 1 1 0\n"
    )
    listing = read_listing(str(root), PackOptions(max_truncated=0.6))
    assert listing.skipped == {"don't care": 2, "of a picture that is not there": 1, "truncated": 1}


def test_a_frame_number_that_is_none_may_be_of_any_frame(tmp_path):
    root = write_tracking(tmp_path)
    with (root / "training" / "label_02" / "0000.txt").open("a") as stream:
        stream.write("x 1 Car 0 0 0 1 1 50 50 1 1 1 1 1 1 0\n")
    listing = read_listing(str(root), PackOptions(background=8))
    assert {s.group[-4:] for s in listing.samples if s.unmarked} == {"0001"}
    assert listing.skipped["of a picture that is not there"] == 1


def test_both_forms_in_one_folder_are_refused(tmp_path):
    write_tracking(write(tmp_path, SIZES, BOXES))
    refused(tmp_path, "label_2 and")


def test_torchvision_reads_the_same_boxes(tmp_path):
    from torchvision.datasets import Kitti

    write(tmp_path / "Kitti" / "raw", SIZES, BOXES)
    dataset = Kitti(str(tmp_path))
    theirs = {
        (Path(name).name, entry["type"], tuple(map(round, entry["bbox"])))
        for name, (_, target) in zip(dataset.images, dataset, strict=True)
        for entry in target
        if all(value == int(value) for value in entry["bbox"])
    }
    listing = read_listing(str(tmp_path / "Kitti" / "raw"), PackOptions(margin=0.0, background=0))
    assert theirs
    assert theirs <= crops(listing)


def test_what_the_source_calls_hidden_is_left_out_and_counted(tmp_path):
    root = tmp_path / "set"
    (root / "label_2").mkdir(parents=True)
    write_images(root / "image_2", {"1.png": (300, 200)})
    line = "{} {} {} 0 {} 20 {} 80 1 1 1 1 1 1 0\n"
    text = line.format("Car", 0, 0, 10, 60) + line.format("Car", 0.6, 0, 70, 120) + line.format("Car", 0, 2, 130, 180)
    text += (
        line.format("Car", 0, 0, 190, 195)
        + line.format("DontCare", -1, -1, 200, 290)
        + line.format("Tram", 0, 0, 1, 50)
    )
    (root / "label_2" / "1.txt").write_text(text)
    listing = read_listing(str(root), PackOptions(max_truncated=0.5, max_occluded=1, classes="kitti", background=0))
    assert [s.box for s in listing.samples] == [(5, 14, 65, 86)]
    assert listing.skipped == {
        "Tram: dropped by the class map": 1,
        "don't care": 1,
        "occluded": 1,
        "smaller than 12 px": 1,
        "truncated": 1,
    }
