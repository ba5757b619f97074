"""Folders of class folders as people have them: nothing is left out without a count and a name."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from core.errors import InputError
from training.commands import pack as command
from training.data.class_map import read_class_map
from training.data.importers import read_listing
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack
from training.data.source_files import image_size

OPTIONS = PackOptions(size_px=32)


def write(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        (root / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return root


def labels(root: Path, options: PackOptions = OPTIONS) -> dict[str, str]:
    return {sample.source: sample.label for sample in read_listing(str(root), options).samples}


def test_a_class_called_background_between_underscores_is_a_class(tmp_path):
    write(tmp_path, "__background__/a.png", "car/b.png", "__MACOSX/car/._b.png", ".cache/c.png")
    listing = read_listing(str(tmp_path), OPTIONS)
    assert listing.classes == ("__background__", "car")
    assert listing.warnings == ["left out: 2 (.cache, __MACOSX): hidden"]


def test_a_class_called_train_stands_beside_other_classes(tmp_path):
    assert labels(write(tmp_path, "car/a.png", "train/b.png")) == {"car/a.png": "car", "train/b.png": "train"}


def test_a_split_folder_beside_a_class_folder_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match="a class that is called train holds its pictures itself"):
        read_listing(str(write(tmp_path, "car/a.png", "train/bus/b.png")), OPTIONS)


def test_pictures_beside_the_class_folders_are_counted_and_named(tmp_path):
    write(tmp_path, "train/car/a.png", "val/car/b.png", "test/car/c.png", "stray.png", "train/lost.png")
    (tmp_path / "train" / "car" / "note.heic").write_bytes(b"x")
    assert read_listing(str(tmp_path), OPTIONS).warnings == [
        "left out: 1 file that is no picture by its suffix (.heic 1)",
        "left out: 2 (stray.png, train/lost.png): a picture beside the class folders",
    ]


def test_a_class_without_a_picture_says_what_it_holds(tmp_path):
    write(tmp_path, "car/a.png", "bus/b.heic")
    with pytest.raises(InputError, match=r"bus holds no image .*\.heic 1"):
        read_listing(str(tmp_path), OPTIONS)


def test_a_name_that_is_not_utf_8_is_left_out_and_named_and_the_rest_is_packed(tmp_path):
    root = write(tmp_path / "source", *(f"{name}/{i}.png" for name in ("car", "bus") for i in range(9)))
    (root / "car" / "0.png").rename(root / "car" / os.fsdecode(b"\xff.png"))
    made = write_pack(str(root), tmp_path / "pack", OPTIONS)
    assert len(made.labels_n) == 17
    assert r"left out: 1 (car/\xff.png): a file whose name is not UTF-8 (rename it)" in made.metadata["warnings"]


@pytest.mark.parametrize("name", [b"\xffcar", b"ca\nr"])
def test_a_class_whose_name_is_no_line_of_utf_8_is_one_sentence(tmp_path, name):
    (write(tmp_path, "car/a.png") / "car").rename(tmp_path / os.fsdecode(name))
    with pytest.raises(InputError, match=r"the class \S+ is not named in one line of UTF-8") as caught:
        read_listing(str(tmp_path), OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_source_whose_name_is_not_utf_8_is_one_sentence(tmp_path):
    root = write(tmp_path / os.fsdecode(b"\xff"), "car/a.png", "bus/b.png")
    with pytest.raises(InputError, match=r"\\xff is not named in UTF-8"):
        read_listing(str(root), OPTIONS)


def test_a_link_to_the_folder_above_brings_no_pictures_of_other_classes(tmp_path):
    write(tmp_path, "car/a.png", "bus/b.png")
    (tmp_path / "car" / "up").symlink_to("..")
    assert labels(tmp_path) == {"car/a.png": "car", "bus/b.png": "bus"}


def test_classes_that_differ_by_case_or_space_only_are_said(tmp_path):
    write(tmp_path, "Car/a.png", "car /b.png", "bus/c.png")
    (warning,) = read_listing(str(tmp_path), OPTIONS).warnings
    assert warning.startswith("the classes 'Car', 'car ' differ by case")


@pytest.mark.parametrize("name", ["汽车", "автомобиль", "कार", "سيارة", "auto", "🚗"])
def test_a_class_map_is_written_in_any_script(tmp_path, name):
    (tmp_path / "map.csv").write_text(f"class,becomes\n{name},car\nकर,tax\n汽,gas\n🚌,bus\n", encoding="utf-8")
    assert read_class_map(str(tmp_path / "map.csv")).becomes(name) == "car"


def test_pictures_that_the_class_map_drops_are_called_pictures(tmp_path, capsys):
    write(tmp_path / "d", *(f"{name}/{name}{i}.png" for name in ("car", "bus", "cow") for i in range(8)))
    (tmp_path / "map.csv").write_text("class,becomes\ncar,car\nbus,bus\ncow,\n", encoding="utf-8")
    command.main([str(tmp_path / "d"), "--out", str(tmp_path / "p"), "--classes", str(tmp_path / "map.csv")])
    assert "left out: 8 pictures, cow: dropped by the class map" in capsys.readouterr().out


def test_a_file_of_several_pictures_is_named_by_the_pack(tmp_path):
    write(tmp_path / "d", *(f"{name}/{name}{i}.png" for name in ("car", "bus") for i in range(8)))
    pages = [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)) for seed in (98, 99)]
    pages[0].save(tmp_path / "d" / "car" / "pages.tif", save_all=True, append_images=pages[1:])
    made = write_pack(str(tmp_path / "d"), tmp_path / "p", OPTIONS)
    assert (
        "read in part: 1 (car/pages.tif): several pictures in one file, the first is taken" in made.metadata["warnings"]
    )


@pytest.mark.parametrize("names", [("images", "masks"), ("JPEGImages", "SegmentationClass")])
def test_folders_of_masks_are_not_classes_without_a_word(tmp_path, names):
    write(tmp_path, *(f"{name}/{i}.png" for name in names for i in range(2)))
    assert read_listing(str(tmp_path), OPTIONS).warnings == [
        f"{names[0]} and {names[1]} are taken for classes, by their folders' names: "
        "of annotated pictures, COCO, YOLO, Pascal VOC and KITTI are read"
    ]


def test_class_folders_one_floor_too_deep_are_said(tmp_path):
    write(tmp_path, *(f"{above}/{name}/0.png" for above in ("set1", "set2") for name in ("car", "bus")))
    assert read_listing(str(tmp_path), OPTIONS).warnings == [
        "no class folder holds a picture itself, and each holds a folder bus: "
        "if that is the class, put it in place of set1"
    ]


def test_annotations_in_a_text_file_are_named_as_of_no_kind_that_is_read(tmp_path):
    write(tmp_path, "images/0.png", "images/1.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "0.txt").write_text("20,30,80,80,1,4,0,0", encoding="utf-8")
    with pytest.raises(InputError, match=r"0\.txt is no annotation of a kind that is read"):
        read_listing(str(tmp_path), OPTIONS)


def test_an_empty_source_is_not_the_folder_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path, "car/a.png", "bus/b.png"))
    with pytest.raises(InputError, match="the source is empty"):
        read_listing("", OPTIONS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
def test_the_size_in_the_header_is_that_of_the_upright_picture(tmp_path, form):
    from PIL import Image

    from core.data.picture_reader import read_picture

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 40)).save(tmp_path / "a", form, exif=exif)
    height, width = read_picture(tmp_path / "a").shape[:2]
    assert image_size(tmp_path / "a") == (width, height) == (40, 48)
