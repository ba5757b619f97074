"""Pascal VOC as the devkit, LabelImg, Roboflow and CVAT write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InputError
from tests.training.data.detection_sets import BOXES, OPTIONS, SIZES, crops, left_out, refused, write_images
from tests.training.data.detection_sets import write_voc as write
from training.data.importers import find_importer, read_listing
from training.data.listing import PackOptions

FILES = {
    "cut off": lambda t: t[:-20],
    "an entity bomb": lambda t: f'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>{t.replace("car", "&d;")}',
    "an encoding that is none": lambda t: f'<?xml version="1.0" encoding="klingon"?>{t}',
}
OBJECTS = {
    "no box": lambda t: t.replace("bndbox>", "robndbox>", 2),
    "no name": lambda t: t.replace("<name>car</name>", "<name> </name>"),
    "box of words": lambda t: t.replace("<xmin>", "<xmin>x", 1),
    "box of nothing": lambda t: t.replace("<xmin>11", "<xmin>"),
    "box that is not a number": lambda t: t.replace("<xmin>11", "<xmin>nan"),
    "a flag of words": lambda t: t.replace("<bndbox>", "<difficult>maybe</difficult><bndbox>", 1),
}
SAME = {
    "no size": lambda t: t.replace("size>", "sice>"),
    "size of words": lambda t: t.replace("<width>200", "<width>wide"),
    "size of 0": lambda t: t.replace("<width>200", "<width>0").replace("<height>150", "<height>0"),
    "size of fractions": lambda t: t.replace("<width>200", "<width>200.0"),
    "spaces": lambda t: t.replace("<name>", "<name>\n  ").replace("</name>", " </name>").replace("<xmin>", "<xmin> "),
    "turned corners": lambda t: t.replace("xmin>", "_>").replace("xmax>", "xmin>").replace("_>", "xmax>"),
    "fractions": lambda t: t.replace("</xmin>", ".0</xmin>"),
    "flags of words": lambda t: t.replace("<bndbox>", "<truncated>Unspecified</truncated><difficult/><bndbox>"),
    "another machine's path": lambda t: t.replace("<filename>", "<filename>C:\\me\\"),
    "another suffix": lambda t: t.replace(".png</filename>", ".JPG</filename>"),
    "no suffix": lambda t: t.replace(".png</filename>", "</filename>"),
    "no file name": lambda t: t.replace("filename>", "f>"),
    "a byte order mark": lambda t: "\ufeff" + t,
    "a comment first": lambda t: "<!-- <cat> -->\n" + t,
}


def edited(root: Path, edit, of: str = "*") -> Path:
    """Write the set with some annotations edited."""
    write(root, SIZES, BOXES)
    for file in (root / "Annotations").glob(f"{of}.xml"):
        file.write_text(edit(file.read_text()))
    return root


@pytest.mark.parametrize("name", OBJECTS)
def test_an_odd_object_is_left_out_counted_and_named(tmp_path, name):
    left_out(edited(tmp_path, OBJECTS[name], "drive0_0"), "malformed", "drive0_0.xml, object 1 (")


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_is_left_out_counted_and_named(tmp_path, name):
    left_out(edited(tmp_path, FILES[name], "drive0_0"), "in a malformed file", "drive0_0.xml (")
    refused(edited(tmp_path / "all", FILES[name]), "in a malformed file, first ")


@pytest.mark.parametrize("name", SAME)
def test_what_is_harmless_is_taken(tmp_path, name):
    listing = read_listing(str(edited(tmp_path / "odd", SAME[name])), OPTIONS)
    assert crops(listing) == crops(read_listing(str(write(tmp_path / "plain", SIZES, BOXES)), OPTIONS))
    assert listing.skipped == {}


def test_an_annotation_that_may_be_of_two_pictures_is_refused(tmp_path):
    root = edited(tmp_path, lambda t: t.replace("drive0_0.png", "drive0_1.png"), "drive0_0")
    said = refused(root, "of filename 'drive0_1.png'")
    assert "drive0_0.png or" in said
    (root / "JPEGImages" / "drive0_0.png").unlink()
    refused(root, "drive0_1.xml are both of")


def test_pictures_without_an_annotation_are_told(tmp_path):
    root = write(tmp_path, SIZES, BOXES)
    (root / "Annotations" / "drive0_0.xml").unlink()
    said = "left out: pictures beside these that no annotation lists: 1, the first JPEGImages/drive0_0.png"
    assert said in read_listing(str(root), OPTIONS).warnings


@pytest.mark.parametrize("place", [".", "train", "VOCdevkit/VOC2007", "annotations"])
def test_layouts(tmp_path, place):
    """Beside the pictures (LabelImg, Roboflow), in a devkit, or in a folder of another name."""
    plain = write(tmp_path / "plain", SIZES, BOXES)
    folder = tmp_path / "set" / place
    folder.mkdir(parents=True)
    if place.startswith("VOC"):
        write(folder, SIZES, BOXES)
    else:
        write_images(tmp_path / "set" / "images" if place == "annotations" else folder, SIZES)
        for file in (plain / "Annotations").iterdir():
            (folder / file.name).write_text(file.read_text())
    (tmp_path / "set" / "._junk.xml").write_text("<annotation/>")
    listing = read_listing(str(tmp_path / "set"), OPTIONS)
    assert listing.importer == "voc"
    assert crops(listing) == crops(read_listing(str(plain), OPTIONS))


def test_cvats_own_xml_is_no_voc(tmp_path):
    (tmp_path / "annotations.xml").write_text("<?xml version='1.0'?><annotations><image/></annotations>")
    (tmp_path / "images").mkdir()
    assert find_importer(str(tmp_path)).__name__.endswith("folder")


def test_voc_flags_count_as_half_truncated_partly_occluded_and_difficult(tmp_path):
    write(tmp_path, {"a.png": (200, 150)}, {"a.png": [("car", (0, 0, 50, 50))]})
    file = tmp_path / "Annotations" / "a.xml"
    plain = file.read_text()
    for flag, option, reason in (
        ("truncated", PackOptions(max_truncated=0.4), "truncated"),
        ("occluded", PackOptions(max_occluded=0), "occluded"),
        ("difficult", PackOptions(), "difficult"),
    ):
        file.write_text(plain.replace("<bndbox>", f"<{flag}>1</{flag}><bndbox>"))
        with pytest.raises(InputError, match=f"1 {reason}"):
            read_listing(str(tmp_path), option)


def test_voc_lists_give_the_splits(tmp_path):
    write(tmp_path, SIZES, BOXES)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    stems = [Path(name).stem for name in SIZES]
    for split, part in (("train", stems[:8]), ("val", stems[8:10]), ("test", stems[10:12])):
        (lists / f"{split}.txt").write_text("\n".join(part))
    listing = read_listing(str(tmp_path), PackOptions(background=0))
    assert any("ImageSets/Main names: 1, the first" in line for line in listing.warnings)
    found = {Path(s.source).stem: s.split for s in listing.samples}
    assert found == dict.fromkeys(stems[:8], "train") | dict.fromkeys(stems[8:10], "val") | dict.fromkeys(
        stems[10:12], "test"
    )
