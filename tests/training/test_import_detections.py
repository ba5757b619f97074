"""The detection importers: the same crops from every format, and one sentence for a malformed file of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import InputError
from inference.preprocess import Geometry, fill, read_image
from tests.training.detection_sets import (
    NAMES,
    WRITERS,
    coco_body,
    write_coco,
    write_images,
    write_kitti_labels,
    write_voc,
)
from training.detections import GRID, Box, Picture, crop_rect, draw_background, overlap, snap
from training.importers import Options, Sample, find, read
from training.pack import pack

SHARED = Path(__file__).parents[3] / "shared" / "data"
SIZES = {f"drive{i // 2}_{i}.png": (200, 150) for i in range(12)} | {"empty.png": (160, 120)}
BOXES = {
    name: [("car", (10.0, 20.0 + i, 70.0, 60.0 + i)), (NAMES[i % 3], (90.5, 31.5, 150.5, 100.5))]
    for i, name in enumerate(SIZES)
    if name != "empty.png"
}
OPTIONS = Options(size_px=32, resplit=True)


@pytest.fixture(scope="session", params=sorted(WRITERS))
def written(request, tmp_path_factory) -> tuple[str, Path]:
    """The same data set in each format."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, WRITERS[request.param](folder / "set", SIZES, BOXES)


def crops(listing) -> set[tuple[str, str, object]]:
    return {(Path(s.source).name, s.label, s.box) for s in listing.samples if s.label != listing.background}


def test_every_format_gives_the_same_crops(written):
    name, root = written
    listing = read(str(root), OPTIONS)
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
    made = pack(str(root), tmp_path / "pack", OPTIONS)
    assert made.background == "background"
    assert made.facts["rejected"] == []
    for row in range(len(made.labels_n)):
        frame = read_image(root / made.sources_n[row])
        expected = Geometry(32).empty(1)
        fill(expected, frame, [made.boxes_n[row]], Geometry(32))
        assert np.array_equal(made.images_nhwc[row], expected[0])


def test_crops_of_one_image_share_its_group_and_its_split(written, tmp_path):
    made = pack(str(written[1]), tmp_path / "pack", OPTIONS)
    splits = np.where(made.splits_n == "calibration", "train", made.splits_n)
    for source in set(made.sources_n):
        assert len(set(made.groups_n[made.sources_n == source])) == 1
        assert len(set(splits[made.sources_n == source])) == 1


def test_a_drive_pattern_groups_its_images(written):
    root = written[1]
    with pytest.raises(InputError, match="empty"):
        read(str(root), Options(size_px=32, group=r"drive(\d+)_", resplit=True))
    listing = read(str(root), Options(size_px=32, group=r"drive\d+|empty", resplit=True, background=0))
    assert {s.group for s in listing.samples} == {f"drive{i}" for i in range(6)}


def test_background_overlaps_no_box_and_is_as_many_as_a_class_has(written):
    listing = read(str(written[1]), OPTIONS)
    background = [s for s in listing.samples if s.label == "background"]
    assert len(background) == 8
    for sample in background:
        name = Path(sample.source).name
        assert not any(overlap(sample.box, snap(box, *SIZES[name])) for _, box in BOXES.get(name, ()))
    assert {s.source for s in background if s.source.endswith("empty.png")}


def test_no_background_is_a_pack_without_a_background_class(written):
    listing = read(str(written[1]), Options(size_px=32, background=0))
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
    found = [{crop for crop in crops(read(str(source), OPTIONS)) if crop[0] in images} for source in sources]
    assert len(found[0]) == 19
    assert found[0] == found[1] == found[2] == found[3]


# geometry


sides = st.integers(1, 2000)
edges = st.floats(-50, 2050, allow_nan=False)


@st.composite
def placed(draw) -> tuple[tuple[float, float, float, float], int, int]:
    """Return a box that has at least a pixel inside its image, and the image's width and height."""
    width, height = draw(sides), draw(sides)
    x0, y0 = draw(st.floats(-50, width - 1)), draw(st.floats(-50, height - 1))
    return (x0, y0, max(x0, 0) + draw(st.floats(1, 900)), max(y0, 0) + draw(st.floats(1, 900))), width, height


@given(it=placed(), margin=st.floats(0, 2))
def test_a_crop_holds_its_box_and_its_margin_inside_the_image(it, margin):
    xyxy, width, height = it
    at = snap(xyxy, width, height)
    x0, y0, x1, y1 = crop_rect(at, margin, width, height)
    assert 0 <= x0 <= at[0]
    assert 0 <= y0 <= at[1]
    assert at[2] <= x1 <= width or x1 == x0 + 1
    assert at[3] <= y1 <= height or y1 == y0 + 1
    for inner, outer, size, limit in ((at[0], x0, at[2] - at[0], 0), (at[1], y0, at[3] - at[1], 0)):
        assert outer == max(limit, inner - round(margin * size)) or size <= 0


@given(xyxy=st.tuples(edges, edges, edges, edges))
def test_a_snapped_edge_is_the_nearest_pixel(xyxy):
    snapped = snap(xyxy, 10**6, 10**6)
    for before, after in zip((max(xyxy[0], 0), max(xyxy[1], 0), *xyxy[2:]), snapped, strict=True):
        assert abs(before - after) <= 0.5 + 1 / GRID


@given(xyxy=st.tuples(*[st.integers(0, 2000)] * 4))
def test_whole_pixels_are_not_moved(xyxy):
    assert snap(xyxy, 2000, 2000) == xyxy


@given(it=st.tuples(*[st.integers(0, 4000)] * 4), noise=st.floats(-1 / 65, 1 / 65))
def test_a_half_pixel_that_a_format_blurred_snaps_the_same(it, noise):
    halves = tuple(value / 2 for value in it)
    blurred = tuple(value + noise for value in halves)
    assert snap(halves, 2000, 2000) == snap(blurred, 2000, 2000)


@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 150)] * 2, *[st.integers(1, 60)] * 2), max_size=6),
    wanted=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_background_is_inside_overlaps_nothing_and_is_drawn_the_same_again(boxes, wanted, seed):
    placed_boxes = tuple(Box("car", (x, y, x + w, y + h), skip="crowd" if w % 2 else None) for x, y, w, h in boxes)
    pictures = [Picture("a.png", 200, 150, None, placed_boxes), Picture("b.png", 60, 50, None)]
    samples = [Sample("a.png", "car", "a", None, (0, 0, 40, 30)), Sample("a.png", "car", "a", None, (0, 0, 70, 20))]
    options = Options(seed=seed)
    drawn = draw_background(pictures, samples, wanted, "clear", options, str)
    assert len(drawn) <= wanted
    assert drawn == draw_background(pictures, samples, wanted, "clear", options, str)
    for i, one in enumerate(drawn):
        picture = pictures[one.source == "b.png"]
        assert crop_rect(one.box, 0, picture.width, picture.height) == one.box
        others = [snap(b.xyxy, 200, 150) for b in picture.boxes]
        others += [d.box for d in drawn[:i] if d.source == one.source]
        assert not any(overlap(one.box, other) for other in others)


# filters and layouts


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
    listing = read(str(root), Options(max_truncated=0.5, max_occluded=1, classes="kitti", background=0))
    assert [s.box for s in listing.samples] == [(5, 14, 65, 86)]
    assert listing.skipped == {
        "Tram: dropped by the class map": 1,
        "don't care": 1,
        "occluded": 1,
        "smaller than 12 px": 1,
        "truncated": 1,
    }


def test_voc_flags_count_as_half_truncated_partly_occluded_and_difficult(tmp_path):
    write_voc(tmp_path, {"a.png": (200, 150)}, {"a.png": [("car", (0, 0, 50, 50))]})
    file = tmp_path / "Annotations" / "a.xml"
    plain = file.read_text()
    for flag, option, reason in (
        ("truncated", Options(max_truncated=0.4), "truncated"),
        ("occluded", Options(max_occluded=0), "occluded"),
        ("difficult", Options(), "difficult"),
    ):
        file.write_text(plain.replace("<bndbox>", f"<{flag}>1</{flag}><bndbox>"))
        with pytest.raises(InputError, match=f"1 {reason}"):
            read(str(tmp_path), option)


def test_voc_lists_give_the_splits(tmp_path):
    write_voc(tmp_path, SIZES, BOXES)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    stems = [Path(name).stem for name in SIZES]
    for split, part in (("train", stems[:8]), ("val", stems[8:10]), ("test", stems[10:12])):
        (lists / f"{split}.txt").write_text("\n".join(part))
    listing = read(str(tmp_path), Options(background=0))
    found = {Path(s.source).stem: s.split for s in listing.samples}
    assert found == dict.fromkeys(stems[:8], "train") | dict.fromkeys(stems[8:10], "val") | dict.fromkeys(
        stems[10:12], "test"
    )


def test_a_crowd_of_coco_is_no_object(tmp_path):
    write_coco(tmp_path, SIZES, BOXES)
    body = coco_body(SIZES, BOXES)
    body["annotations"][0]["iscrowd"] = 1
    (tmp_path / "annotations.json").write_text(json.dumps(body))
    assert read(str(tmp_path), OPTIONS).skipped == {"crowd": 1}


def test_the_layout_of_uvh26_is_found(tmp_path):
    """One JSON, images in numbered folders below `data`, file names without the folder; 14 classes become 4."""
    uvh = ["Hatchback", "Sedan", "SUV", "MUV", "Bus", "Truck", "Three-wheeler", "Two-wheeler", "LCV", "Mini-bus"]
    uvh += ["Tempo-traveller", "Bicycle", "Van", "Other"]
    root = tmp_path / "UVH-26-Train"
    sizes = {f"{i}.png": (300, 200) for i in range(14)}
    for i, name in enumerate(sizes):
        write_images(root / "data" / f"{i // 5:03d}", {name: sizes[name]})
    boxes = {name: [("bus", (10, 10, 90, 90))] for name in sizes}
    body = coco_body(sizes, boxes)
    body["categories"] = [{"id": i, "name": name} for i, name in enumerate(uvh)]
    for i, annotation in enumerate(body["annotations"]):
        annotation["category_id"] = i
    file = root / "UVH-26-MV-Train.json"
    file.write_text(json.dumps(body))
    listing = read(str(file), Options(classes="uvh26", background=4))
    assert set(listing.classes) == {"car", "bus", "truck", "two_wheeler", "background"}
    assert sum(listing.skipped.values()) == 2
    assert all((root / sample.source).is_file() for sample in listing.samples)


def test_one_coco_file_a_split_is_found_and_two_of_a_split_are_refused(tmp_path):
    write_images(tmp_path / "images", SIZES)
    for split in ("train", "valid", "test"):
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(coco_body(SIZES, BOXES)))
    assert {s.split for s in read(str(tmp_path), Options()).samples} == {"train", "val", "test"}
    (tmp_path / "other_val.json").write_text(json.dumps(coco_body(SIZES, BOXES)))
    with pytest.raises(InputError, match="both of the split val"):
        read(str(tmp_path), Options())


def test_yolo_polygons_become_their_boxes_and_scores_are_passed_over(tmp_path):
    root = WRITERS["yolo"](tmp_path, {"a.png": (100, 100)}, {})
    (root / "train" / "labels" / "a.txt").write_text("1 0.1 0.2 0.5 0.2 0.5 0.7 0.1 0.7\n0 0.5 0.5 0.2 0.2 0.93\n")
    listing = read(str(root), Options(margin=0.0, background=0))
    assert [(s.label, s.box) for s in listing.samples] == [("car", (10, 20, 50, 70)), ("bus", (40, 40, 60, 60))]


def test_a_frame_of_another_size_than_its_annotation_says_is_rejected(tmp_path):
    write_coco(tmp_path, SIZES, BOXES)
    write_images(tmp_path / "images", {"drive0_0.png": (100, 75)})
    made = pack(str(tmp_path), tmp_path / "pack", OPTIONS)
    assert {r["reason"] for r in made.facts["rejected"]} == {"is 100x75 px, its annotation says 200x150"}


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "kitti"])
def test_a_missing_or_damaged_image_is_listed(kind, tmp_path):
    root = WRITERS[kind](tmp_path / "set", SIZES, BOXES)
    image = next(root.rglob("drive0_0.png"))
    image.write_bytes(image.read_bytes()[:-30])
    made = pack(str(root), tmp_path / "pack", OPTIONS)
    assert {(Path(r["source"]).name, r["reason"]) for r in made.facts["rejected"]} == {
        ("drive0_0.png", "truncated PNG")
    }
    image.write_bytes(b"")
    if kind in ("yolo", "kitti"):  # no header, so its boxes cannot even be placed
        assert [r["reason"] for r in read(str(root), OPTIONS).rejected] == ["unreadable: empty file"]


# malformed files

COCO_EDITS = {
    "not JSON": lambda b: "{",
    "a list": lambda b: json.dumps([b]),
    "no images": lambda b: json.dumps(b | {"images": 3}),
    "no categories": lambda b: json.dumps({k: v for k, v in b.items() if k != "categories"}),
    "no file name": lambda b: json.dumps(b | {"images": [{"id": 7, "width": 9, "height": 9}]}),
    "width of words": lambda b: json.dumps(b | {"images": [b["images"][0] | {"width": "9"}, *b["images"][1:]]}),
    "box of three": lambda b: json.dumps(b | {"annotations": [b["annotations"][0] | {"bbox": [1, 2, 3]}]}),
    "box of words": lambda b: json.dumps(b | {"annotations": [b["annotations"][0] | {"bbox": [1, 2, 3, "x"]}]}),
    "no box": lambda b: json.dumps(b | {"annotations": [{"image_id": 7, "category_id": 1}]}),
    "negative box": lambda b: json.dumps(b | {"annotations": [b["annotations"][0] | {"bbox": [1, 2, -3, 4]}]}),
    "infinite box": lambda b: json.dumps(
        b | {"annotations": [b["annotations"][0] | {"bbox": [1, 2, 3, float("inf")]}]}
    ),
    "unlisted category": lambda b: json.dumps(b | {"annotations": [b["annotations"][0] | {"category_id": 99}]}),
    "unlisted image": lambda b: json.dumps(b | {"annotations": [b["annotations"][0] | {"image_id": 99}]}),
}
YOLO_EDITS = {
    "four fields": "0 0.5 0.5 0.2",
    "words": "0 0.5 0.5 0.2 x",
    "not a number": "0 0.5 0.5 0.2 nan",
    "negative width": "0 0.5 0.5 -0.2 0.2",
    "unnamed class": "3 0.5 0.5 0.2 0.2",
    "class of half": "0.5 0.5 0.5 0.2 0.2",
}
VOC_EDITS = {
    "cut off": lambda t: t[:-20],
    "no size": lambda t: t.replace("size>", "sice>"),
    "size of words": lambda t: t.replace("<width>200", "<width>wide"),
    "no box": lambda t: t.replace("bndbox>", "box>"),
    "no name": lambda t: t.replace("name>car", "name>").replace("car</name", "</name"),
    "box of words": lambda t: t.replace("<xmin>", "<xmin>x"),
    "an entity bomb": lambda t: f'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>{t.replace("car", "&d;")}',
}
KITTI_EDITS = {
    "fourteen fields": "Car 0 0 0 1 1 50 50 1 1 1 1 1 1",
    "words": "Car 0 0 0 1 1 x 50 1 1 1 1 1 1 0",
    "not a number": "Car 0 0 0 nan 1 50 50 1 1 1 1 1 1 0",
    "turned box": "Car 0 0 0 50 1 1 50 1 1 1 1 1 1 0",
}


def refused(root: Path, named: str) -> None:
    with pytest.raises(InputError) as caught:
        read(str(root), Options())
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", COCO_EDITS)
def test_a_malformed_coco_file_is_one_sentence(tmp_path, name):
    write_images(tmp_path / "images", SIZES)
    (tmp_path / "set.json").write_text(COCO_EDITS[name](coco_body(SIZES, BOXES)))
    refused(tmp_path / "set.json", "set.json")


@pytest.mark.parametrize("name", YOLO_EDITS)
def test_a_malformed_yolo_label_is_one_sentence(tmp_path, name):
    root = WRITERS["yolo"](tmp_path, SIZES, BOXES)
    (root / "train" / "labels" / "drive0_0.txt").write_text(YOLO_EDITS[name])
    refused(root, "drive0_0.txt")


@pytest.mark.parametrize("text", ["names: [a", "- a\n", "train: x\n", "names: [a, a]\n", "names: {0: a, 2: b}\n"])
def test_a_malformed_data_yaml_is_one_sentence(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    refused(tmp_path, "data.yaml")


def test_a_data_yaml_whose_folder_is_not_there_is_one_sentence(tmp_path):
    root = WRITERS["yolo"](tmp_path, SIZES, BOXES)
    with (root / "data.yaml").open("a") as stream:
        stream.write("val: elsewhere/images\n")
    refused(root, "elsewhere/images, which does not exist")


@pytest.mark.parametrize("name", VOC_EDITS)
def test_a_malformed_voc_file_is_one_sentence(tmp_path, name):
    write_voc(tmp_path, SIZES, BOXES)
    file = tmp_path / "Annotations" / "drive0_1.xml"
    file.write_text(VOC_EDITS[name](file.read_text()))
    refused(tmp_path, "drive0_1.xml")


@pytest.mark.parametrize("name", KITTI_EDITS)
def test_a_malformed_kitti_label_is_one_sentence(tmp_path, name):
    root = WRITERS["kitti"](tmp_path, SIZES, BOXES)
    (root / "training" / "label_2" / "drive0_1.txt").write_text(KITTI_EDITS[name])
    refused(root, "drive0_1.txt")


def test_a_set_of_two_formats_asks_for_one(tmp_path):
    write_voc(tmp_path, SIZES, BOXES)
    write_coco(tmp_path, SIZES, BOXES)
    with pytest.raises(InputError, match="looks like coco and voc: name one with --format"):
        find(str(tmp_path))
    assert read(str(tmp_path), Options(format="voc")).importer == "voc"


def test_an_importer_named_for_another_source_is_one_sentence(tmp_path):
    for name in ("coco", "kitti", "voc", "yolo", "folder"):
        with pytest.raises(InputError, match=str(tmp_path)):
            read(str(tmp_path), Options(format=name))
    with pytest.raises(InputError, match="did you mean yolo"):
        read(str(tmp_path), Options(format="yollo"))
