"""Class maps: merge, drop, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InputError
from training.data.class_map import SHIPPED, read_class_map

UVH26 = (
    *("Hatchback", "Sedan", "SUV", "MUV", "Bus", "Truck", "Three-wheeler", "Two-wheeler", "LCV", "Mini-bus"),
    *("Tempo-traveller", "Bicycle", "Van", "Other"),
)
KITTI = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")


def write_map(folder: Path, text: str) -> str:
    (folder / "map.csv").write_text(text, encoding="utf-8")
    return str(folder / "map.csv")


@pytest.mark.parametrize(("name", "classes", "kept"), [("uvh26", UVH26, 4), ("kitti", KITTI, 4)])
def test_a_shipped_map_speaks_of_every_class_of_its_data_set(name, classes, kept):
    becomes = {read_class_map(name).becomes(c) for c in classes}
    assert None in becomes
    assert len(becomes) == kept + 1


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.csv")), ids=lambda f: f.stem)
def test_every_shipped_map_reads_and_gives_classes_of_the_synthetic_scene(file):
    from core.synthetic import CLASSES

    assert {c for c in read_class_map(file.stem).table.values() if c} <= set(CLASSES)


def test_names_are_matched_without_case_and_hyphens(tmp_path):
    class_map = read_class_map(write_map(tmp_path, "class,becomes\nTwo-Wheeler,two\n*,\n"))
    assert [class_map.becomes(n) for n in ("two_wheeler", "TWO WHEELER", "twowheeler", "car")] == ["two"] * 3 + [None]


def test_a_star_in_the_second_column_leaves_a_class_as_it_is(tmp_path):
    class_map = read_class_map(write_map(tmp_path, "class,becomes\nsedan,car\nTwo-Wheeler,*\n*,*\n"))
    assert [class_map.becomes(n) for n in ("sedan", "two-wheeler", "Bus")] == ["car", "two-wheeler", "Bus"]


def test_a_class_that_the_map_does_not_name_is_an_error(tmp_path):
    with pytest.raises(InputError, match="has no line for the class 'tram'"):
        read_class_map(write_map(tmp_path, "class,becomes\ncar,car\n")).becomes("tram")


def test_all_classes_that_the_map_does_not_name_are_told_at_once(tmp_path):
    with pytest.raises(InputError, match="the classes 'tram', 'bus': add one for each, `tram,` to drop it"):
        read_class_map(write_map(tmp_path, "class,becomes\ncar,car\n")).check_names(["tram", "Car", "bus", "tram"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name,becomes\na,b",
        "class,becomes\na",
        "class,becomes\na,b,c",
        "class,becomes\n,b",
        "class,becomes\na,b\nA,c",
    ],
)
def test_a_malformed_map_is_one_sentence(tmp_path, text):
    with pytest.raises(InputError, match=r"map\.csv") as caught:
        read_class_map(write_map(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_map_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="did you mean uvh26"):
        read_class_map("uvh")
    with pytest.raises(InputError, match="cannot be read"):
        read_class_map(str(tmp_path / "none.csv"))
