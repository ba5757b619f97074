"""The detection importers: the same crops from every format, and one sentence for a malformed file of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.geometry.preprocess import Geometry, crop_rect, decode, fill
from tests.training.data.detection_sets import (
    BOXES,
    NAMES,
    OPTIONS,
    SHARED,
    SIZES,
    WRITERS,
    crops,
    refused,
    write_coco,
    write_images,
    write_kitti_labels,
    write_voc,
)
from training.data.detections.annotated_boxes import overlaps, snap
from training.data.importers import find_importer, read_listing
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack


@pytest.fixture(scope="session", params=sorted(WRITERS))
def written(request, tmp_path_factory) -> tuple[str, Path]:
    """The same data set in each format."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, WRITERS[request.param](folder / "set", SIZES, BOXES)


def test_every_format_gives_the_same_crops(written):
    name, root = written
    listing = read_listing(str(root), OPTIONS)
    assert listing.importer == name
    expected = {
        (image, label, crop_rect(snap(box, *SIZES[image]), 0.1, *SIZES[image]))
        for image, boxes in BOXES.items()
        for label, box in boxes
    }
    assert crops(listing) == expected
    assert listing.classes == (*NAMES, "background")


def test_every_format_packs_rows_that_are_the_frame_and_its_box(written, tmp_path):
    _, root = written
    made = write_pack(str(root), tmp_path / "pack", OPTIONS)
    assert made.background == "background"
    assert made.metadata["rejected"] == []
    for row in range(len(made.labels_n)):
        frame = decode((root / made.sources_n[row]).read_bytes())
        expected = Geometry(32).empty(1)
        fill(expected, frame, [made.boxes_n[row]], Geometry(32))
        assert np.array_equal(made.images_nhwc[row], expected[0])


def test_crops_of_one_image_share_its_group_and_its_split(written, tmp_path):
    made = write_pack(str(written[1]), tmp_path / "pack", OPTIONS)
    splits = np.where(made.splits_n == "calibration", "train", made.splits_n)
    for source in set(made.sources_n):
        assert len(set(made.groups_n[made.sources_n == source])) == 1
        assert len(set(splits[made.sources_n == source])) == 1


def test_background_overlaps_no_box_and_is_as_many_as_a_class_has(written):
    listing = read_listing(str(written[1]), OPTIONS)
    background = [s for s in listing.samples if s.label == "background"]
    assert len(background) == 8
    for sample in background:
        name = Path(sample.source).name
        assert not any(overlaps(sample.box, snap(box, *SIZES[name])) for _, box in BOXES.get(name, ()))
    assert {s.source for s in background if s.source.endswith("empty.png")}


def test_no_background_is_a_pack_without_a_background_class(written):
    listing = read_listing(str(written[1]), PackOptions(size_px=32, background=0))
    assert listing.background is None
    assert listing.classes == NAMES


def test_the_shared_samples_give_the_same_crops_in_four_formats(tmp_path):
    if not (SHARED / "detection_coco").is_dir():
        pytest.skip("../shared/data is not there")
    body = json.loads((SHARED / "detection_coco" / "annotations.json").read_text())
    names = {c["id"]: c["name"] for c in body["categories"]}
    (tmp_path / "label_2").mkdir()
    shutil.copytree(SHARED / "detection_coco" / "images", tmp_path / "image_2")
    for image in body["images"]:
        found = [a for a in body["annotations"] if a["image_id"] == image["id"]]
        boxes = [(names[a["category_id"]], (x, y, x + w, y + h)) for a in found for x, y, w, h in [a["bbox"]]]
        write_kitti_labels(tmp_path / "label_2" / f"{Path(image['file_name']).stem}.txt", boxes)
    images = {image["file_name"] for image in body["images"]}
    sources = [*(SHARED / f"detection_{kind}" for kind in ("coco", "voc", "yolo")), tmp_path]
    found = [{crop for crop in crops(read_listing(str(source), OPTIONS)) if crop[0] in images} for source in sources]
    assert len(found[0]) == 19
    assert found[0] == found[1] == found[2] == found[3]


# filters and layouts


def test_a_frame_of_another_size_than_its_annotation_says_is_rejected(tmp_path):
    write_coco(tmp_path, SIZES, BOXES)
    write_images(tmp_path / "images", {"drive0_0.png": (100, 75)})
    made = write_pack(str(tmp_path), tmp_path / "pack", OPTIONS)
    assert {r["reason"] for r in made.metadata["rejected"]} == {"is 100x75 px, its annotation says 200x150"}


@pytest.mark.parametrize("kind", ["yolo", "kitti"])
def test_a_picture_without_a_header_is_rejected_where_the_annotation_says_no_size(kind, tmp_path):
    root = WRITERS[kind](tmp_path / "set", SIZES, BOXES)
    next(root.rglob("drive0_0.png")).write_bytes(b"")
    assert [r["reason"] for r in read_listing(str(root), OPTIONS).rejected] == ["unreadable: empty file"]


def test_a_set_of_two_formats_asks_for_one(tmp_path):
    write_voc(tmp_path, SIZES, BOXES)
    write_coco(tmp_path, SIZES, BOXES)
    with pytest.raises(InputError, match="looks like coco and voc: name one with --format"):
        find_importer(str(tmp_path))
    assert read_listing(str(tmp_path), PackOptions(format="voc")).importer == "voc"


FOREIGN = {
    "Label Studio": ("project.json", '[{"annotations": [{"result": []}]}]', "images"),
    "CVAT": ("annotations.xml", "<annotations><image/></annotations>", "images"),
    "labelme": ("a.json", '{"shapes": [], "imagePath": "a.png"}', "."),
    "CreateML": ("train/_annotations.createml.json", '[{"annotations": []}]', "train"),
    "TensorFlow": ("train/_annotations.csv", "filename,class", "train"),
    "an empty COCO file": ("_annotations.coco.json", "", "images"),
}


@pytest.mark.parametrize("tool", FOREIGN)
def test_annotations_of_another_kind_are_no_folder_of_classes(tmp_path, tool):
    name, text, images = FOREIGN[tool]
    write_images(tmp_path / images, {"a.png": (40, 40)})
    (tmp_path / name).write_text(text)
    refused(tmp_path, f"{Path(name).name} is no annotation of a kind that is read")


def test_a_table_beside_folders_of_classes_does_no_harm(tmp_path):
    for name in ("car", "bus"):
        write_images(tmp_path / name, {"a.png": (40, 40)})
    (tmp_path / "metadata.csv").write_text("a,b")
    assert read_listing(str(tmp_path), OPTIONS).classes == ("bus", "car")


def test_an_unknown_importer_gives_the_nearest_name():
    with pytest.raises(InputError, match="did you mean yolo"):
        find_importer(".", "yollo")
