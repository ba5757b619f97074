"""YOLO as Ultralytics, Roboflow, CVAT, Label Studio, LabelImg and Darknet write it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.errors import InputError
from tests.training.data.detection_sets import BOXES, NAMES, OPTIONS, SIZES, crops, left_out, refused, write_images
from tests.training.data.detection_sets import write_yolo as write
from training.data.importers import read_listing
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

LINES = {
    "four fields": "0 0.5 0.5 0.2",
    "words": "0 0.5 0.5 0.2 x",
    "not a number": "0 0.5 0.5 0.2 nan",
    "negative width": "0 0.5 0.5 -0.2 0.2",
    "unnamed class": "3 0.5 0.5 0.2 0.2",
    "negative class": "-1 0.5 0.5 0.2 0.2",
    "class of half": "0.5 0.5 0.5 0.2 0.2",
    "pixels": "0 320 240 100 80",
    "a polygon with a number too many": "0 0.1 0.1 0.5 0.1 0.5 0.5 0.9",
    "key points that data.yaml does not tell": "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.4 2 0.5 0.6 2 0.5 0.5 2",
    "hidden key points that data.yaml does not tell": "0 0.5 0.5 0.2 0.2 0.45 0.45 0 0.55 0.55 0",
    "a track's number": "0 0.5 0.5 0.2 0.2 0.9 17",
    "DOTA": "937.0 913.0 921.0 912.0 923.0 874.0 940.0 875.0 small-vehicle 0",
}


def whole(path: Path) -> set:
    return crops(read_listing(str(path), PackOptions(margin=0.0, background=0, resplit=True)))


@pytest.fixture
def one_picture(tmp_path) -> Path:
    """One picture of 100 x 100 px without a label yet."""
    write(tmp_path, {"a.png": (100, 100)}, {})
    return tmp_path


def label(root: Path, text: str | bytes) -> Path:
    file = root / "train" / "labels" / "a.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


@pytest.mark.parametrize("name", LINES)
def test_an_odd_line_is_left_out_counted_and_named(tmp_path, name):
    root = write(tmp_path, SIZES, BOXES)
    before = whole(root)
    with (root / "train" / "labels" / "drive0_0.txt").open("a") as stream:
        stream.write(LINES[name])
    left_out(root, "malformed", "drive0_0.txt, line 3 (")
    assert whole(root) == before


def test_a_set_of_odd_lines_alone_is_refused_in_one_sentence(one_picture):
    refused(label(one_picture, LINES["pixels"]), "1 malformed, first")


def test_polygons_oriented_boxes_and_scores(one_picture):
    lines = "1 0.1 0.2 0.5 0.2 0.5 0.7 0.1 0.7 0.3 0.5\n0 0.5 0.5 0.2 0.2 0.93\n2 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n"
    assert whole(label(one_picture, lines)) == {
        ("a.png", "car", (10, 20, 50, 70)),
        ("a.png", "bus", (40, 40, 60, 60)),
        ("a.png", "person", (10, 10, 90, 90)),
    }


@pytest.mark.parametrize(("shape", "points"), [("[2, 3]", "0.1 0.1 2 0.9 0.9 1"), ("[1, 2]", "0.05 0.95")])
def test_key_points_are_no_polygon(one_picture, shape, points):
    with (one_picture / "data.yaml").open("a") as stream:
        stream.write(f"kpt_shape: {shape}\n")
    assert whole(label(one_picture, f"0 0.5 0.5 0.2 0.2 {points}\n1 0.2 0.2 0.2 0.2\n")) == {
        ("a.png", "bus", (40, 40, 60, 60)),
        ("a.png", "car", (10, 10, 30, 30)),
    }
    (one_picture / "data.yaml").write_text("names: [bus]\ntrain: train/images\nkpt_shape: 17\n")
    refused(one_picture, "kpt_shape is 17")


@pytest.mark.parametrize(
    "text",
    [
        "1.000000e+00 5.0e-01 0.5 .2 0.20\n",
        "1.0 0.5 0.5 0.2 0.2",
        "\ufeff1 0.5 0.5 0.2 0.2\r\n\r\n",
        "1\t0.5  0.5\t0.2 0.2 \n\n\n",
        "1 0.5 0.5 0.2 0.2\n".encode("utf-16"),
        "1 0.5 0.5 0.2 0.2\n".encode("utf-32"),
    ],
)
def test_numbers_line_ends_and_encodings(one_picture, text):
    assert whole(label(one_picture, text)) == {("a.png", "car", (40, 40, 60, 60))}


@pytest.mark.parametrize(
    "names",
    [
        "names: [bus, car, person]",
        "names: {0: bus, 1: car, 2: person}",
        "names: {'0': bus, '1': car, '2': person}",
        "names:\n  2: person\n  0: bus\n  1: car",
        "nc: '3'\nnames: [' bus', car , person]",
        "\ufeffnc: 3.0\r\nnames: [bus, car, person]\r",
        "names: [bus, car, person]\x92",
    ],
)
def test_names_in_every_form(one_picture, names):
    (one_picture / "data.yaml").write_bytes((names + "\ntrain: ../train/images\n").encode())
    assert whole(label(one_picture, "1 0.5 0.5 0.2 0.2\n")) == {("a.png", "car", (40, 40, 60, 60))}


def test_a_class_called_no_is_not_false(one_picture):
    (one_picture / "data.yaml").write_text("names: [no, yes, 1]\ntrain: train/images\nval: null\ntest: ~\n")
    assert {c[1] for c in whole(label(one_picture, "0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.2 0.2\n"))} == {"no", "yes"}


def test_no_label_file_at_all_says_where_one_was_looked_for(one_picture):
    (one_picture / "train" / "labels" / "a.txt").unlink()
    refused(one_picture, "none of its 1 pictures has a label file: ")


def test_a_number_of_classes_without_names_is_named_as_ultralytics_does(one_picture):
    (one_picture / "data.yaml").write_text("nc: 3\ntrain: train/images\n")
    assert {c[1] for c in whole(label(one_picture, "2 0.5 0.5 0.2 0.2\n"))} == {"class_2"}


def test_one_name_of_two_numbers_is_one_class_and_is_told(one_picture):
    (one_picture / "data.yaml").write_text("names: [car, car]\ntrain: train/images\n")
    listing = read_listing(str(label(one_picture, "0 0.2 0.2 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")), PackOptions(background=0))
    assert listing.classes == ("car",)
    assert "class names that stand for several numbers: 1, the first car" in listing.warnings


@pytest.mark.parametrize(
    "text",
    ["names: [a", "- a\n", "train: x\n", "names: {0: a, 2: b}\n", "names: [a, '']\n", "nc: 2\nnames: [a]\n", ""],
)
def test_a_malformed_data_yaml_is_one_sentence(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    refused(tmp_path, "data.yaml")


@pytest.mark.parametrize(
    "places",
    [
        "train: ../train/images",
        "path: ''\ntrain: [train/images]",
        "path: /home/me/set\ntrain: /home/me/set/train/images\nval:",
        "path: C:\\Users\\me\\set\ntrain: C:\\Users\\me\\set\\train\\images",
        "train: Highway-40/train/images\ntest: ''",
        "train: train",
        "path: .\ntrain: lists/train.txt",
        "train: [lists/train.txt, train/images]",
    ],
)
def test_places_in_every_form(one_picture, places):
    (one_picture / "lists").mkdir()
    (one_picture / "lists" / "train.txt").write_text("\ufeffdata/train/images/a.png\r\n\r\n")
    (one_picture / "data.yaml").write_text(f"names: [bus]\n{places}\n")
    assert whole(label(one_picture, "0 0.5 0.5 0.2 0.2\n")) == {("a.png", "bus", (40, 40, 60, 60))}


def test_a_place_inside_and_outside_of_the_set_is_refused_naming_both(tmp_path):
    write(tmp_path / "set", SIZES, BOXES)
    write(tmp_path, SIZES, BOXES)
    refused(tmp_path / "set", "which may be")


def test_a_folder_that_is_not_there_is_one_sentence_and_no_matter_when_the_splits_are_drawn(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    with (root / "data.yaml").open("a") as stream:
        stream.write("val: elsewhere/images\n")
    refused(root, "elsewhere/images, which does not exist")
    assert any("elsewhere" in line for line in read_listing(str(root), OPTIONS).warnings)


def test_a_picture_in_two_lists_is_taken_once_when_the_splits_are_drawn(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    with (root / "data.yaml").open("a") as stream:
        stream.write("val: ../train/images\n")
    listing = read_listing(str(root), OPTIONS)
    assert sorted(s.box for s in listing.samples if not s.unmarked) == sorted(c[2] for c in crops(listing))
    assert any(line.startswith("pictures that are listed more than once, taken once: 13") for line in listing.warnings)


def test_two_pictures_of_one_label_file_are_refused(one_picture):
    write_images(one_picture / "train" / "images", {"a.jpg": (100, 100)})
    refused(label(one_picture, "0 0.5 0.5 0.2 0.2\n"), "a.png are both of")


def layout(root: Path, images: str, labels: str, names: str | None, split: str = "") -> Path:
    """Lay a set out in other folders; `names` is the file that names the classes."""
    write(root / "plain", SIZES, BOXES)
    for kind, folder in (("images", images), ("labels", labels)):
        shutil.copytree(root / "plain" / "train" / kind, root / "set" / folder / split, dirs_exist_ok=True)
    if names:
        (root / "set" / names).write_text("\n".join(NAMES) + "\n\n")
    return root / "set"


@pytest.mark.parametrize(
    ("images", "labels", "names", "split"),
    [
        ("images", "labels", "classes.txt", ""),  # Label Studio
        ("images", "labels", "labels/classes.txt", "train"),
        ("obj_train_data", "obj_train_data", "obj.names", ""),  # CVAT
        ("", "", "classes.txt", ""),  # LabelImg
        ("train", "train", "train/_darknet.labels", ""),  # Roboflow
        ("data/images", "data/labels", "data/classes.txt", ""),
    ],
)
def test_a_set_without_data_yaml(tmp_path, images, labels, names, split):
    root = layout(tmp_path, images, labels, names, split)
    listing = read_listing(str(root), OPTIONS)
    assert listing.importer == "yolo"
    assert crops(listing) == crops(read_listing(str(tmp_path / "plain"), OPTIONS))
    assert {s.split for s in read_listing(str(root), PackOptions()).samples} == {
        "train" if "train" in images + split else None
    }


def test_a_set_without_any_names_is_numbered_and_told(tmp_path):
    listing = read_listing(str(layout(tmp_path, "images", "labels", None)), OPTIONS)
    assert listing.classes == ("class_0", "class_1", "class_2", "background")
    assert "no classes.txt and no data.yaml names the classes: they are called class_0 to class_2" in listing.warnings


def test_two_lists_of_names_that_differ_are_refused(tmp_path):
    root = layout(tmp_path, "images", "labels", "classes.txt")
    (root / "labels" / "classes.txt").write_text("car\nbus\nperson\n")
    refused(root, "name different classes")


def test_two_files_that_describe_the_set_are_refused_and_a_networks_is_none(one_picture):
    (one_picture / "yolov8n.yaml").write_text("nc: 80\nbackbone: []\n")
    assert whole(label(one_picture, "0 0.5 0.5 0.2 0.2\n"))
    (one_picture / "other.yaml").write_text("names: [car]\ntrain: train/images\n")
    refused(one_picture, "data.yaml and")


def test_names_that_are_not_unicode_and_labels_of_kitti_are_one_sentence(tmp_path):
    root = layout(tmp_path, "images", "labels", "classes.txt")
    (root / "classes.txt").write_bytes("véhicule\n".encode("latin-1"))
    refused(root, "classes.txt cannot be read as text")
    (root / "classes.txt").unlink()
    for file in (root / "labels").iterdir():
        file.write_text("Car 0 0 0 1 1 50 50 1 1 1 1 1 1 0\n")
    refused(root, "no class number stands in the label files")


def test_darknets_obj_data_and_lists(tmp_path):
    root = layout(tmp_path, "obj_train_data", "obj_train_data", "obj.names")
    (root / "obj.data").write_text("classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    (root / "train.txt").write_text("".join(f"data/obj_train_data/{name}\n" for name in SIZES))
    for source in (root, root / "obj.data"):
        listing = read_listing(str(source), OPTIONS)
        assert listing.importer == "yolo"
        assert crops(listing) == crops(read_listing(str(tmp_path / "plain"), OPTIONS))
    (root / "obj.names").write_text("bus\n\nperson\n")
    refused(root, "obj.names must hold one class name a line: line 2 is empty")


def test_background_is_cut_from_labelled_pictures_alone_and_the_others_are_told(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    missing = [f"drive{i // 2}_{i}" for i in range(6)]
    for stem in missing:
        (root / "train" / "labels" / f"{stem}.txt").unlink()
    listing = read_listing(str(root), OPTIONS)
    assert {Path(s.source).stem for s in listing.samples if s.unmarked}.isdisjoint(missing)
    assert "train/images/empty.png" in {s.source for s in listing.samples if s.unmarked}
    assert any(
        line.startswith("pictures without a label file: 6, the first train/images/drive0_0.png")
        for line in listing.warnings
    )
    asked = read_listing(
        str(root), PackOptions(size_px=32, resplit=True, background=40, background_from_unlabelled=True)
    )
    assert {Path(s.source).stem for s in asked.samples if s.unmarked} >= set(missing)


def test_what_has_no_partner_is_told(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    (root / "train" / "images" / "drive0_0.png").unlink()
    (root / "train.txt").write_text("".join(f"./train/images/{name}\n" for name in list(SIZES)[2:]) + "notes.pdf\n")
    (root / "data.yaml").write_text("names: [bus, car, person]\ntrain: train.txt\n")
    warnings = read_listing(str(root), OPTIONS).warnings
    assert "left out: label files without a picture: 2, the first train/labels/drive0_0.txt" in warnings
    assert (
        "left out: pictures beside these that no annotation lists: 1, the first train/images/drive0_1.png" in warnings
    )
    assert any("that name no picture by their suffix: 1, the first notes.pdf" in line for line in warnings)


def test_boxes_over_the_edge_are_cut_and_told(one_picture):
    listing = read_listing(
        str(label(one_picture, "0 0.1 0.5 0.4 0.4\n1 0.5 0.5 0.2 0.2\n")), PackOptions(margin=0.0, background=0)
    )
    assert crops(listing) == {("a.png", "bus", (0, 30, 30, 70)), ("a.png", "car", (40, 40, 60, 60))}
    assert any("over the edge of their picture, cut there: 1, the first" in line for line in listing.warnings)


def test_numbers_that_count_from_one_are_not_taken_without_a_word(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    (root / "data.yaml").write_text("names: [bus, car, person, van]\ntrain: ../train/images\n", encoding="utf-8")
    for file in (root / "train" / "labels").glob("*.txt"):
        lines = file.read_text().splitlines()
        file.write_text("\n".join(f"{int(line[0]) + 1}{line[1:]}" for line in lines if line))
    said = "classes that are listed and that no box has: 1, the first bus"
    assert said in read_listing(str(root), OPTIONS).warnings


def test_one_class_left_says_what_was_left_out(tmp_path):
    root = write(tmp_path, SIZES, {name: [("car", (10.0, 20.0, 70.0, 60.0))] for name in SIZES})
    label = next((root / "train" / "labels").glob("*.txt"))
    label.write_text(label.read_text() + "9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"only the class car \(left out: 1 malformed, first "):
        write_pack(str(root), tmp_path / "p", PackOptions(size_px=32, resplit=True, background=0))
