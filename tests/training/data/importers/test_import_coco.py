"""COCO as COCO, UVH-26, Roboflow, CVAT and Label Studio write it; what is ambiguous is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.data.detection_sets import BOXES, OPTIONS, SIZES, coco_body, crops, left_out, refused, write_images
from tests.training.data.detection_sets import write_coco as write
from training.data.importers import find_importer, read_listing
from training.data.listing import PackOptions


def edited(root: Path, edit) -> Path:
    """Write the set with an edited JSON."""
    write(root, SIZES, BOXES)
    body = coco_body(SIZES, BOXES)
    text = edit(body)
    (root / "annotations.json").write_text(text if isinstance(text, str) else json.dumps(body))
    return root


WHOLE = {
    "not JSON": lambda b: "{",
    "a list": lambda b: json.dumps([b]),
    "no images": lambda b: b.update(images=3),
    "no categories": lambda b: b.pop("categories"),
    "no file name": lambda b: b.update(images=[{"id": 7, "width": 9, "height": 9}]),
    "all of another image": lambda b: [entry.update(image_id=99) for entry in b["annotations"]],
    "panoptic": lambda b: [entry.update(segments_info=[entry.pop("bbox")]) for entry in b["annotations"]],
    "one id of two pictures": lambda b: b["images"][1].update(id=7),
    "one id of two pictures, once in words": lambda b: b["images"][1].update(id="7"),
    "one picture of two ids": lambda b: b["images"][1].update(file_name="drive0_0.png"),
    "one id of two classes": lambda b: b["categories"][1].update(id=1.0),
}
ODD = {
    "box of three": {"bbox": [1, 2, 3]},
    "box of words": {"bbox": [1, 2, 3, "x"]},
    "box of nothing": {"bbox": None},
    "box of corners in a table": {"bbox": {"x": 1}},
    "negative box": {"bbox": [1, 2, -3, 4]},
    "infinite box": {"bbox": [1, 2, 3, float("inf")]},
    "box that is not a number": {"bbox": [1, 2, float("nan"), 4]},
    "box beyond the floats": {"bbox": [1e308, 1e308, 1e308, 1e308]},
    "box of a very large number": {"bbox": [1, 2, 10**400, 4]},
    "unlisted category": {"category_id": 99},
    "category of half": {"category_id": 1.5},
    "huge category": {"category_id": 10**30},
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_coco_or_ambiguous_is_one_sentence(tmp_path, name):
    edited(tmp_path, WHOLE[name])
    refused(tmp_path / "annotations.json", "annotations.json")


@pytest.mark.parametrize("name", ODD)
def test_an_odd_annotation_is_left_out_counted_and_named(tmp_path, name):
    edited(tmp_path, lambda body: body["annotations"][0].update(ODD[name]))
    left_out(tmp_path, "malformed", "annotations.json")


def test_an_annotation_of_an_unlisted_image_is_left_out_counted_and_named(tmp_path):
    edited(tmp_path, lambda body: body["annotations"][0].update(image_id=99))
    listing = read_listing(str(tmp_path), OPTIONS)
    assert listing.skipped == {"of an image that is not listed": 1}
    assert "'image_id': 99" in listing.first_skipped["of an image that is not listed"]


def test_what_is_no_entry_at_all_is_left_out_counted_and_named(tmp_path):
    edited(tmp_path, lambda body: [body[key].append("x") for key in ("images", "annotations", "categories")])
    listing = read_listing(str(tmp_path), OPTIONS)
    assert listing.skipped == {"malformed": 1}
    assert any(line.startswith("left out: entries of images: 1, the first") for line in listing.warnings)


SAME = {
    "numbers as strings": lambda b: [
        entry.update(
            {key: str(entry[key]) for key in ("image_id", "category_id")} | {"bbox": [*map(str, entry["bbox"])]}
        )
        for entry in b["annotations"]
    ],
    "ids as whole floats": lambda b: [entry.update(image_id=float(entry["image_id"])) for entry in b["annotations"]],
    "sizes as strings": lambda b: [entry.update(width=str(entry["width"]), height="") for entry in b["images"]],
    "no sizes": lambda b: [(entry.pop("width"), entry.pop("height")) for entry in b["images"]],
    "sizes of nothing": lambda b: [entry.update(width=0, height=None) for entry in b["images"]],
    "names": lambda b: (
        [entry.update(id=f"007_{entry['id']}") for entry in b["images"]]
        + [entry.update(image_id=f"007_{entry['image_id']}") for entry in b["annotations"]]
    ),
    "huge ids": lambda b: (
        [entry.update(id=entry["id"] + 10**40) for entry in b["images"]]
        + [entry.update(image_id=entry["image_id"] + 10**40) for entry in b["annotations"]]
    ),
    "a byte order mark": lambda b: "\ufeff" + json.dumps(b),
    "another machine's paths": lambda b: [
        entry.update(file_name="C:\\me\\x\\" + entry["file_name"]) for entry in b["images"]
    ],
    "a run-length mask": lambda b: [
        entry.update(segmentation={"counts": "abc", "size": [1, 1]}) for entry in b["annotations"]
    ],
    "a class above them": lambda b: b["categories"].append({"id": 0, "name": "vehicles"}),
    "an entry twice": lambda b: b["images"].append(b["images"][0]),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_harmless_is_taken(tmp_path, name):
    edited(tmp_path / "odd", SAME[name])
    listing = read_listing(str(tmp_path / "odd"), OPTIONS)
    assert crops(listing) == crops(read_listing(str(write(tmp_path / "plain", SIZES, BOXES)), OPTIONS))
    assert listing.skipped == {}


def test_a_crowd_of_coco_is_no_object(tmp_path):
    write(tmp_path, SIZES, BOXES)
    body = coco_body(SIZES, BOXES)
    body["annotations"][0]["iscrowd"] = 1
    (tmp_path / "annotations.json").write_text(json.dumps(body))
    assert read_listing(str(tmp_path), OPTIONS).skipped == {"crowd": 1}


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
    listing = read_listing(str(file), PackOptions(classes="uvh26", background=4))
    assert set(listing.classes) == {"car", "bus", "truck", "two_wheeler", "background"}
    assert sum(listing.skipped.values()) == 2
    assert all((root / sample.source).is_file() for sample in listing.samples)


def parted(body: dict, part: int, parts: int) -> dict:
    """Return every `parts`th picture of a COCO body."""
    images = body["images"][part::parts]
    ids = {image["id"] for image in images}
    return body | {"images": images, "annotations": [a for a in body["annotations"] if a["image_id"] in ids]}


def test_one_coco_file_a_split_is_found_and_two_of_a_split_are_refused(tmp_path):
    write_images(tmp_path / "images", SIZES)
    for i, split in enumerate(("train", "valid", "test")):
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(parted(coco_body(SIZES, BOXES), i, 3)))
    assert {s.split for s in read_listing(str(tmp_path), PackOptions()).samples} == {"train", "val", "test"}
    (tmp_path / "other_val.json").write_text(json.dumps(coco_body(SIZES, BOXES)))
    refused(tmp_path, "both of the split val")


def test_a_picture_of_two_files_is_refused(tmp_path):
    write_images(tmp_path / "images", SIZES)
    for split in ("train", "valid"):
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(coco_body(SIZES, BOXES)))
    refused(tmp_path, "are both of the picture images/drive0_0.png")


def test_the_layout_of_2017_as_published(tmp_path):
    (tmp_path / "annotations").mkdir()
    for i, split in enumerate(("train", "val")):
        body = parted(coco_body(SIZES, BOXES), i, 2)
        write_images(
            tmp_path / f"{split}2017", {entry["file_name"]: SIZES[entry["file_name"]] for entry in body["images"]}
        )
        for task in ("instances", "captions", "person_keypoints"):
            (tmp_path / "annotations" / f"{task}_{split}2017.json").write_text(json.dumps(body))
    listing = read_listing(str(tmp_path), PackOptions(background=0))
    assert {(s.split, s.source.split("/")[0]) for s in listing.samples} == {("train", "train2017"), ("val", "val2017")}
    assert "COCO files beside the instances: 4, the first" in "".join(listing.warnings)
    alone = read_listing(str(tmp_path / "annotations" / "instances_val2017.json"), PackOptions(background=0))
    assert crops(alone) == {(Path(s.source).name, s.label, s.box) for s in listing.samples if s.split == "val"}


def two_folders(root: Path, names: list[str]) -> Path:
    """Write a.png in two folders and a JSON that names them."""
    for folder in ("day", "night"):
        write_images(root / "images" / folder, {"a.png": (200, 150)})
    body = coco_body(dict.fromkeys(names, (200, 150)), {name: [("car", (10, 10, 50, 50))] for name in names})
    (root / "annotations.json").write_text(json.dumps(body))
    return root


def test_a_base_name_in_two_folders_is_refused_naming_both(tmp_path):
    said = refused(two_folders(tmp_path, ["a.png"]), "a.png may be")
    assert "images/day/a.png" in said
    assert "images/night/a.png" in said


def test_a_base_name_with_its_folder_is_found(tmp_path):
    listing = read_listing(str(two_folders(tmp_path, ["night/a.png", "images\\day\\a.png"])), PackOptions(background=0))
    assert [s.source for s in listing.samples] == ["images/night/a.png", "images/day/a.png"]


def test_a_picture_that_is_not_there_is_none_of_another_folder(tmp_path):
    """Numbered from 1 in each folder: where one folder is missing, the other's pictures are not taken for its."""
    root = two_folders(tmp_path, ["day/a.png", "dusk/a.png"])
    samples = read_listing(str(root), PackOptions(background=0)).samples
    assert {s.source for s in samples} == {"images/day/a.png", "dusk/a.png"}
    (root / "val").mkdir()
    (root / "images" / "day" / "a.png").rename(root / "val" / "a.png")
    (root / "images" / "night" / "a.png").unlink()
    (root / "annotations.json").write_text(
        json.dumps(coco_body({"train/a.png": (200, 150)}, {"train/a.png": [("car", (10, 10, 50, 50))]}))
    )
    assert {s.source for s in read_listing(str(root), PackOptions(background=0)).samples} == {"train/a.png"}


@pytest.mark.parametrize("text", ['[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', '{"shapes": [], "imagePath": "a.png"}'])
def test_json_of_another_kind_is_no_coco(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    (tmp_path / "car").mkdir()
    assert find_importer(str(tmp_path)).__name__.endswith("folder")
    refused(tmp_path / "other.json", "is not COCO: it has no list 'images'")
