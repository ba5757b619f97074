"""Data health: what stands in a pack twice is found, a leak is refused and shown, figures are true."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from core.errors import InputError
from tests.browser import CHROMIUM, browse
from tests.training.data.detection_sets import write_kitti
from training.data import health_page
from training.data.duplicates import MAX_BITS, DuplicatePair, find_duplicates, hash_picture, near_pairs
from training.data.importers import folder
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack
from training.data.splits import draw_splits
from training.reports.pack_table import pack_summary

OPTIONS = PackOptions(size_px=64)


def picture(seed: int, width: int = 120, height: int = 90) -> np.ndarray:
    """Return a picture with coarse and fine structure, as photographs have."""
    random = np.random.default_rng(seed)
    coarse, fine = (random.integers(0, 256, (n, n + 1, 3)).astype(np.float32) for n in (5, 24))
    whole = sum(
        weight * cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
        for weight, part in ((0.7, coarse), (0.3, fine))
    )
    return np.clip(whole, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Path:
    """split/class/*.png: 8 pictures a class and split, all different."""
    root = tmp_path_factory.mktemp("clean") / "source"
    for s, split in enumerate(("train", "val", "test")):
        for c, name in enumerate(("bus", "car")):
            (root / split / name).mkdir(parents=True)
            for i in range(8):
                cv2.imwrite(str(root / split / name / f"{i}.png"), picture(100 * s + 10 * c + i))
    return root


@pytest.fixture
def source(clean, tmp_path) -> Path:
    """A copy of `clean` that a test may spoil."""
    return Path(shutil.copytree(clean, tmp_path / "source"))


def copy(source: Path, target: str, *, mirrored: bool = False, quality: int = 75, scale: float = 1.0) -> None:
    """Write train/bus/3.png again, as a JPEG."""
    image = cv2.imread(str(source / "train/bus/3.png"))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = image[:, ::-1] if mirrored else image
    cv2.imwrite(str(source / target), image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def test_different_pictures_are_no_twins(clean, tmp_path):
    health = write_pack(str(clean), tmp_path / "p", OPTIONS).metadata["health"]
    assert [health[k] for k in ("exact_duplicates", "near_duplicates", "across_splits", "across_classes")] == [0] * 4


def test_a_mirrored_re_encoded_duplicate_across_splits_is_refused_and_the_pair_is_shown(source, tmp_path):
    copy(source, "test/bus/9.jpg", mirrored=True)
    with pytest.raises(InputError) as caught:
        write_pack(str(source), tmp_path / "p", OPTIONS)
    sentence = str(caught.value)
    assert all(part in sentence for part in ("train/bus/3.png", "test/bus/9.jpg", "mirrored", "--allow-leaks"))
    assert "\n" not in sentence
    assert not (tmp_path / "p").exists()
    page = (tmp_path / "p.leaks.html").read_text()
    shown = re.search(r"<figure>.*?</figure>", page, re.S)[0]
    assert "train/bus/3.png" in shown
    assert "test/bus/9.jpg" in shown
    assert "data:image/jpeg;base64," in shown


@pytest.mark.parametrize(
    "how",
    [{}, {"quality": 50}, {"scale": 1.6}, {"scale": 0.8, "mirrored": True}, {"quality": 90, "mirrored": True}],
    ids=str,
)
def test_a_copy_is_found_however_it_was_written(source, tmp_path, how):
    copy(source, "val/bus/9.jpg", **how)
    with pytest.raises(InputError, match=r"val/bus/9\.jpg"):
        write_pack(str(source), tmp_path / "p", OPTIONS)


def test_the_same_file_in_two_splits_is_refused(source, tmp_path):
    shutil.copy(source / "train/bus/3.png", source / "test/car/again.png")
    with pytest.raises(InputError, match="the same pixels"):
        write_pack(str(source), tmp_path / "p", OPTIONS)


def test_a_leak_that_is_allowed_is_packed_and_told(source, tmp_path):
    copy(source, "test/car/9.jpg", mirrored=True)
    made = write_pack(str(source), tmp_path / "p", PackOptions(size_px=64, allow_leaks=True))
    health = made.metadata["health"]
    assert [health[key] for key in ("across_splits", "across_classes", "mirrored")] == [1, 1, 1]
    assert [health["examples"][0][side]["source"] for side in ("first", "second")] == [
        "train/bus/3.png",
        "test/car/9.jpg",
    ]
    assert sum("one picture in two" in warning for warning in made.metadata["warnings"]) == 2
    assert "1 across splits, 1 across classes" in pack_summary(made)


def test_a_source_that_was_corrected_is_packed_and_its_page_of_leaks_goes(source, tmp_path):
    copy(source, "test/bus/9.jpg")
    with pytest.raises(InputError):
        write_pack(str(source), tmp_path / "p", OPTIONS)
    (source / "test/bus/9.jpg").unlink()
    write_pack(str(source), tmp_path / "p", OPTIONS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p", "source"]


def test_a_duplicate_within_a_split_is_counted_and_packed(source, tmp_path):
    copy(source, "train/bus/9.jpg")
    health = write_pack(str(source), tmp_path / "p", OPTIONS).metadata["health"]
    assert [health[key] for key in ("near_duplicates", "across_splits")] == [1, 0]


def test_splits_that_we_draw_do_not_part_one_picture(source, tmp_path):
    """Nor the pictures of the groups that two copies tie together."""
    names = [
        f"{split}/{label}/{i}.png" for split in ("train", "val", "test") for label in ("bus", "car") for i in range(8)
    ]
    groups = {name: f"g{i // 2}" for i, name in enumerate(names)} | {"test/bus/9.jpg": "copy"}
    copy(source, "test/bus/9.jpg", mirrored=True)
    (tmp_path / "groups.csv").write_text("file,group\n" + "".join(f"{n},{g}\n" for n, g in groups.items()))
    seed = next(s for s in range(99) if parted(groups, s))
    options = PackOptions(size_px=64, resplit=True, group_csv=tmp_path / "groups.csv", seed=seed)
    made = write_pack(str(source), tmp_path / "p", options)
    split = dict(zip(made.sources_n, np.where(made.splits_n == "calibration", "train", made.splits_n), strict=True))
    assert split["train/bus/3.png"] == split["test/bus/9.jpg"] == split["train/bus/2.png"]
    assert made.metadata["health"]["across_splits"] == 0
    assert write_pack(str(source), tmp_path / "p", options).fingerprint == made.fingerprint


def test_a_leak_in_splits_that_we_draw_is_removed_without_decoding_again(source, tmp_path, monkeypatch):
    """The pack is the one of a source whose groups were joined from the start."""
    copy(source, "test/bus/9.jpg", mirrored=True)
    (source / "train/bus/broken.jpg").write_bytes(b"\xff\xd8 no")
    groups = {str(file.relative_to(source)): str(file.relative_to(source)) for file in source.glob("*/*/*")}
    seed = next(s for s in range(99) if parted(groups | {"test/bus/9.jpg": "copy"}, s))
    tables = groups | {"test/bus/9.jpg": "copy"}, groups | {"test/bus/9.jpg": "copy", "train/bus/3.png": "copy"}
    decoded, made = [], []
    load = folder.load_file
    monkeypatch.setattr(folder, "load_file", lambda root, name: decoded.append(name) or load(root, name))
    for number, table in enumerate(tables):
        file = tmp_path / f"{number}.csv"
        file.write_text("file,group\n" + "".join(f"{n},{g}\n" for n, g in table.items()))
        options = PackOptions(size_px=64, resplit=True, group_csv=file, seed=seed, processes=1)
        made.append(write_pack(str(source), tmp_path / f"p{number}", options))
    assert sorted(decoded) == sorted([*groups] * 2)
    assert made[0].fingerprint == made[1].fingerprint
    assert np.array_equal(made[0].images_nhwc, made[1].images_nhwc)
    assert (made[0].path / "rows.csv").read_bytes() == (made[1].path / "rows.csv").read_bytes()


def parted(groups: dict[str, str], seed: int) -> bool:
    """Say whether the splits drawn by this seed part the copy from its picture."""
    drawn = draw_splits([(group, name.split("/")[1]) for name, group in groups.items()], seed)
    return drawn["copy"] != drawn[groups["train/bus/3.png"]]


def test_two_pictures_of_one_fixed_camera_are_not_one_when_somebody_stands_in_one(source, tmp_path):
    scene = picture(7)
    for name, there in (("train/car/scene.png", False), ("test/bus/scene.png", True)):
        frame = scene.copy()
        if there:
            cv2.rectangle(frame, (50, 30), (60, 62), (20, 20, 160), -1)
        cv2.imwrite(str(source / name), frame)
    assert write_pack(str(source), tmp_path / "p", OPTIONS).metadata["health"]["near_duplicates"] == 0


def test_black_pictures_are_not_one_picture(source, tmp_path):
    for name, seed in (("train/car/night.png", 1), ("test/car/night.png", 2)):
        cv2.imwrite(str(source / name), (picture(seed) // 60).astype(np.uint8))
    assert write_pack(str(source), tmp_path / "p", OPTIONS).metadata["health"]["across_splits"] == 0


def test_crops_of_a_detection_set_are_compared_as_crops(tmp_path):
    sizes = {f"{i}.png": (300, 200) for i in range(12)}
    boxes = {name: [("car", (10, 10, 100, 100)), ("bus", (150, 20, 280, 150))] for name in sizes}
    root = write_kitti(tmp_path / "set", sizes, boxes)
    health = write_pack(str(root), tmp_path / "p", PackOptions(size_px=64, background=0)).metadata["health"]
    assert health["near_duplicates"] == 0
    assert health["classes"]["car"]["short_side_px"] == {"min": 108, "median": 108, "max": 108}
    assert health["classes"]["bus"]["sizes"] == [0, 0, 0, 0, 12, 0, 0]


def test_sizes_and_rejects_are_told(source, tmp_path):
    for i in range(20):
        cv2.imwrite(str(source / "train/bus" / f"small{i}.png"), picture(500 + i, 50, 40))
    (source / "train/car/broken.jpg").write_bytes(b"\xff\xd8 no")
    made = write_pack(str(source), tmp_path / "p", OPTIONS)
    health = made.metadata["health"]
    assert (health["enlarged"], health["classes"]["bus"]["sizes"][2]) == (20, 20)
    page = (tmp_path / "p" / "health.html").read_text()
    assert "train/car/broken.jpg" in page
    assert page.count("data:image/jpeg") == 2
    assert "http" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it to look at the page")
def test_long_names_do_not_widen_the_page(source, tmp_path):
    for split in ("train", "val", "test"):
        (source / split / "bus").rename(source / split / ("articulated_" * 8 + "bus"))
    (source / "train/car" / ("broken_" * 20 + ".jpg")).write_bytes(b"no")
    write_pack(str(source), tmp_path / ("pack" * 20), OPTIONS)

    async def visit(tab):
        await tab.show(tmp_path / ("pack" * 20) / "health.html", 390)
        return await tab.value("document.documentElement.scrollWidth")

    assert browse(visit) == 390


def test_an_unbalanced_pack_is_warned_of(source, tmp_path):
    for i in range(7):
        for split in ("train", "val", "test"):
            (source / split / "car" / f"{i}.png").unlink()
    assert any(
        "the class bus has 8.0 times the rows of car" in w
        for w in write_pack(str(source), tmp_path / "p", OPTIONS).metadata["warnings"]
    )


# the search


def test_near_pairs_are_those_of_the_plain_search():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 1 << 63, 300).astype(np.uint64)
    for i in range(100):  # neighbours at every distance from 0 to 12
        flips = random.choice(64, i % 13, replace=False)
        hashes[200 + i] = hashes[i] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    splits = random.integers(0, 3, 300)
    plain = {
        (i, j) for i in range(300) for j in range(i + 1, 300) if int(hashes[i] ^ hashes[j]).bit_count() <= MAX_BITS
    }
    found = near_pairs(hashes, hashes, splits).tolist()
    assert {(i, j) for i, j in found} == plain
    assert len(plain) >= 50
    apart = [splits[i] != splits[j] for i, j in found]
    assert apart == sorted(apart, reverse=True)


def test_many_copies_of_one_picture_are_paired_with_the_first_of_each_split():
    image = cv2.resize(picture(1), (64, 64))
    images = np.stack([image] * 300)
    hashes = np.array([hash_picture(image)] * 300, np.uint64)
    found = find_duplicates([b"x"] * 300, hashes, images, np.array([0] * 200 + [2] * 100))
    assert len(found) == 199 + 100 + 99
    assert found[0] == DuplicatePair(0, 200, exact=True, mirrored=False)


def test_a_mirrored_hash_is_the_hash_of_the_mirrored():
    for seed in range(20):
        image = cv2.resize(picture(seed), (64, 64))
        upright, mirrored = hash_picture(image)
        assert hash_picture(np.ascontiguousarray(image[:, ::-1])) == (mirrored, upright)


def test_pictures_too_flat_to_be_told_apart_have_no_twins():
    none = np.zeros(0, np.uint64)
    assert near_pairs(none, none, np.zeros(0, np.int64)).shape == (0, 2)


def test_the_page_of_many_classes_shows_fewer_pictures_of_each():
    def tiles(classes: int) -> list[int]:
        samples = [SimpleNamespace(sample=SimpleNamespace(label=str(i % classes))) for i in range(50 * classes)]
        health = SimpleNamespace(classes=dict.fromkeys(map(str, range(classes))), rows=samples)
        return [len(rows) for rows in health_page._choose_rows(health).values()]

    assert tiles(3) == [40] * 3
    assert sum(tiles(1000)) <= health_page.TILES
    assert min(tiles(3000)) == 2
