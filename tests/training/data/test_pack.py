"""The pack writer: what stands in a pack, what is refused, and that equal sources give equal packs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.data.pack import Pack, fingerprint, open_pack
from core.errors import InputError
from core.files import canonical_json
from core.geometry.preprocess import Geometry, decode, fill, whole
from core.locks import locked
from tests.waiting import wait_until
from training.commands import pack as command
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

ROOT = Path(__file__).parents[3]
SIZE = 32
OPTIONS = PackOptions(size_px=SIZE)
GROUPED = PackOptions(size_px=SIZE, group=r"g(\d+)_")


def write_image(path: Path, seed: int, side: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (side + 8, side), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture(scope="session")
def flat(tmp_path_factory) -> Path:
    """class/*: two classes, 20 groups of 3 images each."""
    root = tmp_path_factory.mktemp("flat") / "source"
    for c, name in enumerate(("bus", "car")):
        for i in range(60):
            suffix = "png" if i % 4 == 0 else "jpg"
            write_image(root / name / f"g{i // 3 + 100 * c:03d}_{i}.{suffix}", 1000 * c + i)
    return root


@pytest.fixture(scope="session")
def divided(tmp_path_factory) -> Path:
    """split/class/*: six images a class and split."""
    root = tmp_path_factory.mktemp("divided") / "source"
    for s, split in enumerate(("train", "valid", "test")):
        for c, name in enumerate(("bus", "car")):
            for i in range(6):
                write_image(root / split / name / f"g{s}{i}_{c}.png", 100 * s + 10 * c + i)
    return root


@pytest.fixture
def source(divided, tmp_path) -> Path:
    """A copy of `divided` that a test may spoil."""
    return Path(shutil.copytree(divided, tmp_path / "source"))


@pytest.fixture(scope="session")
def packed(flat, tmp_path_factory) -> Pack:
    return write_pack(str(flat), tmp_path_factory.mktemp("packed") / "pack", GROUPED)


def test_every_row_is_its_file_through_the_one_preprocessing(packed, flat):
    assert len(packed.labels_n) == 120
    for row in range(120):
        frame = decode((flat / packed.sources_n[row]).read_bytes())
        expected = Geometry(SIZE).empty(1)
        fill(expected, frame, [whole(frame)], Geometry(SIZE))
        assert np.array_equal(packed.images_nhwc[row], expected[0])
        assert packed.sources_n[row].startswith(packed.classes[packed.labels_n[row]])


def test_groups_do_not_span_splits_and_splits_are_70_15_15(packed):
    where = {group: set() for group in packed.groups_n}
    for group, split in zip(packed.groups_n, packed.splits_n, strict=True):
        where[group].add("train" if split == "calibration" else split)
    assert len(where) == 40
    assert all(len(splits) == 1 for splits in where.values())
    assert [packed.counts[s] for s in ("train", "val", "test")] == [{"bus": n, "car": n} for n in (42, 9, 9)]


def test_calibration_is_a_balanced_part_of_train(packed):
    counts = packed.counts["calibration"]
    assert sum(counts.values()) == 64
    assert max(counts.values()) - min(counts.values()) <= 1
    assert set(packed.rows("calibration")) < set(packed.rows("train"))


def test_rows_are_shuffled_within_their_split(packed):
    train = packed.labels_n[packed.rows("train")]
    assert packed.rows("train").tolist() == list(range(len(train)))
    assert (train[1:] != train[:-1]).sum() > 20


def test_the_fingerprint_is_that_of_the_pixels_in_the_file(packed):
    import hashlib

    rows = [
        (int(label), str(split), hashlib.sha256(pixels.tobytes()).digest())
        for label, split, pixels in zip(packed.labels_n, packed.splits_n, packed.images_nhwc, strict=True)
    ]
    assert packed.fingerprint == fingerprint(packed.classes, packed.background, packed.geometry, rows)


def test_the_same_source_packs_to_the_same_bytes_elsewhere_and_with_any_number_of_processes(flat, packed, tmp_path):
    elsewhere = Path(shutil.copytree(flat, tmp_path / "moved" / "copy"))
    copy = write_pack(str(elsewhere), tmp_path / "one", GROUPED)
    two = write_pack(str(flat), tmp_path / "two", PackOptions(size_px=SIZE, group=GROUPED.group, processes=2))
    assert copy.fingerprint == two.fingerprint == packed.fingerprint
    for name in ("images.npy", "rows.csv"):
        assert (copy.path / name).read_bytes() == (two.path / name).read_bytes() == (packed.path / name).read_bytes()


def test_processes_that_are_really_started_give_the_same_rows(packed, flat, tmp_path, monkeypatch):
    import training.data.decode

    monkeypatch.setattr(training.data.decode, "IMAGES_PER_PROCESS", 8)
    made = write_pack(str(flat), tmp_path / "p", PackOptions(size_px=SIZE, group=GROUPED.group, processes=2))
    assert made.fingerprint == packed.fingerprint


def test_another_pixel_label_split_or_size_changes_the_fingerprint(source, tmp_path):
    first = write_pack(str(source), tmp_path / "a", OPTIONS).fingerprint
    larger = write_pack(str(source), tmp_path / "b", PackOptions(size_px=SIZE + 1)).fingerprint
    (source / "test/bus/g20_0.png").rename(source / "test/car/g20_0.png")
    relabelled = write_pack(str(source), tmp_path / "c", OPTIONS).fingerprint
    write_image(source / "test/car/g20_0.png", 99)
    assert len({first, larger, relabelled, write_pack(str(source), tmp_path / "d", OPTIONS).fingerprint}) == 4


def test_given_splits_are_kept(divided, tmp_path):
    made = write_pack(str(divided), tmp_path / "p", OPTIONS)
    for source_name, split in zip(made.sources_n, made.splits_n, strict=True):
        given = {"train": "train", "valid": "val", "test": "test"}[source_name.split("/")[0]]
        assert given == ("train" if split == "calibration" else split)


def test_resplit_ignores_the_given_splits(divided, tmp_path):
    made = write_pack(str(divided), tmp_path / "p", PackOptions(size_px=SIZE, resplit=True))
    assert sum(made.counts["train"].values()) == 24
    assert {name.split("/")[0] for name in made.sources_n[made.rows("train")]} == {"train", "valid", "test"}


def test_drawn_splits_are_not_told_to_be_drawn_anew(tmp_path):
    for name, count in (("car", 9), ("bus", 9), ("tram", 1)):
        for i in range(count):
            write_image(tmp_path / "s" / name / f"{name}{i}.png", len(name) * 100 + i + ord(name[0]))
    with pytest.raises(InputError, match=r"tram is in the split .* another --seed") as error:
        write_pack(str(tmp_path / "s"), tmp_path / "p", OPTIONS)
    assert "--resplit" not in str(error.value)


def damaged(source: Path) -> dict[str, str]:
    """Spoil images of a source in every way; return {file: word of the reason}."""
    folder = source / "train" / "car"
    whole_jpeg = write_image(folder / "whole.jpg", 5, side=200).read_bytes()
    whole_png = (folder / "g00_1.png").read_bytes()
    thumbnail = b"\xff\xe1" + (len(whole_jpeg) + 2).to_bytes(2, "big") + whole_jpeg
    flipped = bytearray(whole_png)
    flipped[len(flipped) // 2] ^= 1
    contents = {
        "cut.jpg": (whole_jpeg[:-20], "truncated"),
        "cut.png": (whole_png[:-16], "truncated"),
        "flipped.png": (bytes(flipped), "checksum"),
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is not an image", "not an image"),
        "thumbnail.jpg": (whole_jpeg[:2] + thumbnail + whole_jpeg[2:-20], "truncated"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    write_image(folder / "tiny.png", 3, side=5)
    return {f"train/car/{name}": word for name, (_, word) in contents.items()} | {"train/car/tiny.png": "tiny"}


def test_damaged_and_tiny_images_are_listed_with_the_reason_and_leave_no_gap(source, tmp_path):
    expected = damaged(source)
    made = write_pack(str(source), tmp_path / "p", OPTIONS)
    rejected = {file["source"]: file["reason"] for file in made.metadata["rejected"]}
    assert set(rejected) == set(expected)
    assert all(word in rejected[name] for name, word in expected.items())
    assert len(made.labels_n) == 37 == made.images_nhwc.shape[0]
    for row in range(37):
        frame = decode((source / made.sources_n[row]).read_bytes())
        out_nhwc = Geometry(SIZE).empty(1)
        fill(out_nhwc, frame, [whole(frame)], Geometry(SIZE))
        assert np.array_equal(made.images_nhwc[row], out_nhwc[0])


def test_a_whole_jpeg_with_a_thumbnail_and_bytes_after_its_end_is_kept(source, tmp_path):
    folder = source / "train" / "car"
    data = write_image(folder / "a.jpg", 5, side=60).read_bytes()
    (folder / "a.jpg").write_bytes(data[:2] + b"\xff\xe1\x00\x06\xff\xd9\xff\xd9" + data[2:] + b"\0\0\0")
    assert write_pack(str(source), tmp_path / "p", OPTIONS).metadata["rejected"] == []


def test_nothing_but_damaged_images_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / "x.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match="none of its 2 images"):
        write_pack(str(tmp_path / "s"), tmp_path / "p", OPTIONS)
    assert not (tmp_path / "p").exists()


def spoil_missing(source: Path) -> str:
    shutil.rmtree(source)
    return "does not exist"


def spoil_empty_class(source: Path) -> str:
    (source / "val2").mkdir()
    (source / "val2").rename(source / "valid" / "tram")
    return "tram holds no image"


def spoil_class_of_one_split(source: Path) -> str:
    write_image(source / "train" / "tram" / "a.png", 1)
    return "tram is in the split train only"


def spoil_class_not_in_train(source: Path) -> str:
    for split in ("valid", "test"):
        write_image(source / split / "tram" / f"{split}.png", len(split))
    return "tram is not in train"


def spoil_no_test(source: Path) -> str:
    shutil.rmtree(source / "test")
    return "no test split"


def spoil_odd_folder(source: Path) -> str:
    (source / "holdout").mkdir()
    return "holdout stands beside"


def spoil_no_folders(source: Path) -> str:
    shutil.rmtree(source)
    source.mkdir()
    return "holds no folder"


SPOILERS = [v for k, v in sorted(globals().items()) if k.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda s: s.__name__.removeprefix("spoil_"))
def test_a_source_that_cannot_be_used_is_one_sentence(source, tmp_path, spoil):
    said = spoil(source)
    with pytest.raises(InputError) as caught:
        write_pack(str(source), tmp_path / "p", OPTIONS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob(".p*"))


def test_a_group_that_spans_given_splits_is_named(source, tmp_path):
    write_image(source / "test" / "bus" / "g00_9.png", 9)
    with pytest.raises(InputError, match="the group 00 is in two splits"):
        write_pack(str(source), tmp_path / "p", GROUPED)


def test_a_file_without_a_group_is_named(source, tmp_path):
    write_image(source / "train" / "bus" / "odd.png", 9)
    with pytest.raises(InputError, match=r"odd\.png: its file name does not match the group pattern") as caught:
        write_pack(str(source), tmp_path / "p", GROUPED)
    assert f"'{GROUPED.group}': give a pattern" in str(caught.value)  # as it was typed, its backslash once


def test_groups_come_from_a_csv(flat, tmp_path):
    files = sorted(p.relative_to(flat).as_posix() for p in flat.rglob("*.*"))
    lines = ["file,group", *(f"{name},{'odd' if i % 8 else name}" for i, name in enumerate(files))]
    (tmp_path / "groups.csv").write_text("\n".join(lines), encoding="utf-8")
    made = write_pack(str(flat), tmp_path / "p", PackOptions(size_px=SIZE, group_csv=tmp_path / "groups.csv"))
    assert (made.groups_n == "odd").sum() == 105
    (tmp_path / "groups.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(InputError, match=r"groups\.csv has no group for"):
        write_pack(str(flat), tmp_path / "q", PackOptions(size_px=SIZE, group_csv=tmp_path / "groups.csv"))


def test_a_pack_of_the_same_request_is_opened_and_not_written_again(source, tmp_path):
    write_pack(str(source), tmp_path / "p", OPTIONS)
    stamp = (tmp_path / "p" / "pack.json").stat().st_ino
    write_pack(str(source), tmp_path / "p", OPTIONS)
    assert (tmp_path / "p" / "pack.json").stat().st_ino == stamp


def test_a_pack_made_before_an_option_came_is_one_of_its_default(source, tmp_path, monkeypatch):
    whole = PackOptions.as_json
    before = {k: v for k, v in whole(OPTIONS).items() if k != "background_from_unlabelled"}
    monkeypatch.setattr(PackOptions, "as_json", lambda it: before)
    write_pack(str(source), tmp_path / "p", OPTIONS)
    monkeypatch.setattr(PackOptions, "as_json", whole)
    assert write_pack(str(source), tmp_path / "p", OPTIONS).path == tmp_path / "p"
    with pytest.raises(InputError, match="made with background_from_unlabelled False, not True"):
        write_pack(str(source), tmp_path / "p", replace(OPTIONS, background_from_unlabelled=True))


def test_an_existing_out_of_another_request_or_kind_is_left_alone(source, tmp_path):
    write_pack(str(source), tmp_path / "p", OPTIONS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=rf"made with size_px {SIZE}, not {SIZE + 1}: name"):
        write_pack(str(source), tmp_path / "p", PackOptions(size_px=SIZE + 1))
    write_image(source / "train" / "bus" / "new.png", 77)
    with pytest.raises(InputError, match="a pack of other files"):
        write_pack(str(source), tmp_path / "p", OPTIONS)
    with pytest.raises(InputError, match="is not a pack"):
        write_pack(str(source), tmp_path / "mine", OPTIONS)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_class_map_that_was_edited_is_told_from_other_files(source, tmp_path):
    class_map = tmp_path / "map.csv"
    options = replace(OPTIONS, classes=str(class_map))
    class_map.write_text("class,becomes\n*,*\n")
    write_pack(str(source), tmp_path / "p", options)
    class_map.write_text("class,becomes\nbus,coach\n*,*\n")
    with pytest.raises(InputError, match=r"a pack made with the classes .*bus.*, not .*coach.*: name another"):
        write_pack(str(source), tmp_path / "p", options)
    class_map.write_text("class,becomes\n*,*\n")
    write_image(source / "train" / "bus" / "new.png", 77)
    with pytest.raises(InputError, match=rf"a pack of other files, of another {class_map}, or of another version"):
        write_pack(str(source), tmp_path / "p", options)


def test_what_a_killed_pack_left_behind_is_removed(source, tmp_path):
    dead = tmp_path / ".p.4194305.tmp"
    dead.mkdir()
    write_pack(str(source), tmp_path / "p", OPTIONS)
    assert not dead.exists()


def test_a_pack_killed_while_it_decodes_leaves_nothing_that_the_next_one_minds(tmp_path):
    out = tmp_path / "p"
    command = [sys.executable, "-m", "training", "pack", "synthetic://?rows=3000", "--size", "32", "--out", str(out)]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(tmp_path.glob(".p.*.tmp/images.npy")), "images of a pack that is being made")
    started.kill()
    started.wait()
    assert not out.exists()
    assert len(list(tmp_path.glob(".p.*.tmp"))) == 1
    made = write_pack("synthetic://?rows=60", out, OPTIONS)
    assert len(made.labels_n) == 60
    assert [file.name for file in tmp_path.iterdir()] == ["p"]


def test_synthetic_rows_say_so_and_equal_the_camera(tmp_path):
    from core.synthetic import Scene
    from training.data.importers.synthetic import HEIGHT, WIDTH

    made = write_pack("synthetic://?rows=60&seed=2", tmp_path / "p", PackOptions(size_px=48))
    assert made.synthetic
    assert made.background == "clear"
    assert (
        sum(made.counts["train"].values()) + sum(made.counts["val"].values()) + sum(made.counts["test"].values()) == 60
    )
    for row in (0, 30, 59):
        scenario, seed, index = made.sources_n[row].split("/")
        frame, _ = Scene(int(seed), WIDTH, HEIGHT, scenario).render(int(index))
        expected = Geometry(48).empty(1)
        fill(expected, frame, [made.boxes_n[row]], Geometry(48))
        assert np.array_equal(made.images_nhwc[row], expected[0])


@pytest.mark.parametrize(
    "uri", ["synthetic://?rows=x", "synthetic://?lines=3", "synthetic://?frames=0", "synthetic://?scenario=fog&rows=60"]
)
def test_a_wrong_synthetic_source_is_one_sentence(uri, tmp_path):
    with pytest.raises(InputError, match="synthetic"):
        write_pack(uri, tmp_path / "p", OPTIONS)


@pytest.mark.parametrize(
    "wrong",
    [{"size_px": 8}, {"kernel": "cubic"}, {"group": "("}, {"min_side_px": 0}, {"processes": 0}, {"format": "avi"}],
    ids=lambda w: next(iter(w)),
)
def test_a_wrong_option_is_one_sentence(divided, tmp_path, wrong):
    with pytest.raises(InputError):
        write_pack(str(divided), tmp_path / "p", PackOptions(**wrong))


def test_the_command_prints_the_table_or_the_facts(divided, tmp_path, capsys):
    arguments = [str(divided), "--out", str(tmp_path / "p"), "--size", str(SIZE)]
    command.main(arguments)
    table = capsys.readouterr().out
    made = open_pack(tmp_path / "p")
    assert made.fingerprint in table
    assert "bus" in table
    command.main([*arguments, "--json"])
    assert canonical_json(json.loads(capsys.readouterr().out)) == canonical_json(made.metadata)


def test_paths_and_times_are_not_in_the_fingerprint_but_the_source_is_in_the_facts(packed, flat):
    assert packed.metadata["source"] == {"importer": "folder", "root": str(flat.resolve())}
    assert not any(Path(name).is_absolute() for name in packed.sources_n)


def test_a_pack_that_another_process_writes_is_left_to_it(tmp_path):
    out = tmp_path / "pack"
    with locked(out), pytest.raises(InputError, match="pack is in use by another process"):
        write_pack("synthetic://?rows=60", out, OPTIONS)
    assert not list(tmp_path.iterdir())
    write_pack("synthetic://?rows=60", out, OPTIONS)
    with locked(out):
        write_pack("synthetic://?rows=60", out, OPTIONS)  # it is only read
    assert list(tmp_path.iterdir()) == [out]
