"""Packs larger than one file, and larger than memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

import training.data.decode
import training.data.image_store
from core.data.pack import COLUMNS, Pack, Shards, fingerprint, open_pack
from core.errors import InputError
from core.files import write_json
from core.geometry.preprocess import Geometry
from training.data.image_store import HEADER_BYTES, ImageStore
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

SIZE = 32
ROW_BYTES = SIZE * SIZE * 3
OPTIONS = PackOptions(size_px=SIZE)


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """split/class/*.png, three of them damaged."""
    root = tmp_path_factory.mktemp("shards") / "source"
    for s, split in enumerate(("train", "val", "test")):
        for c, name in enumerate(("bus", "car")):
            (root / split / name).mkdir(parents=True)
            for i in range(30):
                image = np.random.default_rng(1000 * s + 100 * c + i).integers(0, 256, (6, 7, 3), np.uint8)
                cv2.imwrite(str(root / split / name / f"{i}.png"), cv2.resize(image, (50, 40)))
        (root / split / "bus" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    return root


@pytest.fixture(scope="session")
def whole(source, tmp_path_factory) -> Pack:
    return write_pack(str(source), tmp_path_factory.mktemp("whole") / "pack", OPTIONS)


def in_shards(source: Path, out: Path, rows: int, options: PackOptions = OPTIONS) -> Pack:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.data.image_store, "SHARD_BYTES", HEADER_BYTES + rows * ROW_BYTES + 5)
        return write_pack(str(source), out, options)


@pytest.fixture(scope="session")
def sharded(source, tmp_path_factory) -> Pack:
    return in_shards(source, tmp_path_factory.mktemp("sharded") / "pack", 100)


@pytest.mark.parametrize("rows", [7, 90, 179])
def test_a_pack_in_shards_is_the_same_pack(source, whole, tmp_path, rows):
    made = in_shards(source, tmp_path / "p", rows)
    assert made.fingerprint == whole.fingerprint
    assert np.array_equal(made.images_nhwc[:], whole.images_nhwc)
    assert (made.path / "rows.csv").read_bytes() == (whole.path / "rows.csv").read_bytes()
    files = sorted(made.path.glob("images.*.npy"))
    assert len(files) == -(-180 // rows)
    assert all(file.stat().st_size <= HEADER_BYTES + rows * ROW_BYTES for file in files)
    assert not (made.path / "images.npy").exists()


def test_shards_are_written_by_processes_too(source, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training.data.decode, "IMAGES_PER_PROCESS", 8)
    made = in_shards(source, tmp_path / "p", 50, PackOptions(size_px=SIZE, processes=2))
    assert np.array_equal(made.images_nhwc[:], whole.images_nhwc)


@pytest.mark.parametrize("spoil", ["missing", "cut", "swapped"])
def test_a_spoilt_shard_is_one_sentence(sharded, tmp_path, spoil):
    path = Path(shutil.copytree(sharded.path, tmp_path / "p"))
    last = path / "images.001.npy"
    if spoil == "missing":
        last.unlink()
    elif spoil == "cut":
        os.truncate(last, 1000)
    else:
        shutil.copy(path / "images.000.npy", last)
    with pytest.raises(InputError, match=r"images\.001\.npy"):
        open_pack(path)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_a_wrong_number_of_rows_a_shard_is_one_sentence(sharded, tmp_path, value):
    write_json(tmp_path / "pack.json", sharded.metadata | {"shard_rows": value})
    with pytest.raises(InputError, match="shard_rows"):
        open_pack(tmp_path)


@st.composite
def indexed(draw):
    n = draw(st.integers(1, 30))
    rows = st.integers(-n, n - 1)
    bounds = st.none() | st.integers(-n - 2, n + 2)
    slices = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, -1, -3]))
    arrays = st.lists(rows, max_size=12).map(lambda found: np.array(found, np.int64))
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    return n, draw(st.integers(1, 30)), draw(rows | slices | arrays | masks)


@given(it=indexed())
def test_shards_index_as_the_array_that_they_are_cut_from(it):
    n, each, key = it
    whole = np.arange(n * 12, dtype=np.uint8).reshape(n, 2, 2, 3)
    shards = Shards(tuple(whole[start : start + each] for start in range(0, n, each)))
    assert np.array_equal(shards[key], whole[key])
    assert (shards.shape, shards.dtype, len(shards)) == (whole.shape, whole.dtype, n)
    assert np.array_equal(np.stack(list(shards)), whole)
    with pytest.raises(IndexError):
        shards[n]


@given(st.permutations(range(12)), st.integers(1, 12), st.sampled_from([None, 1, 5, 12]))
def test_rows_are_arranged_as_an_array_is_indexed(order, kept, shard_rows):
    rows = np.random.default_rng(kept).integers(0, 256, (12, SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore(folder, len(rows), SIZE, shard_rows)
        store.create()
        with store.writer() as write:
            for at, row in enumerate(rows):
                write(at, row)
        assert np.array_equal(store.arrange(order[:kept]).open()[:], rows[order[:kept]])


# 252,723 rows of 224 px, 38 GB: files without content, which take no room on the disk

ROWS, SIDE = 252_723, 224


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Pack:
    folder = tmp_path_factory.mktemp("huge") / "pack"
    folder.mkdir()
    files = ImageStore(str(folder), ROWS, SIDE, (training.data.image_store.SHARD_BYTES - HEADER_BYTES) // (SIDE**2 * 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 50, 0, 1 << 50))
        files.create()
    names, splits = ("bus", "car"), ("train", "train", "train", "val", "test")
    rows = (f"{i},{names[i % 2]},{splits[i * 5 // ROWS]},g{i},{i}.jpg," for i in range(ROWS))
    (folder / "rows.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    facts = {"schema": 1, "classes": list(names), "background": None, "geometry": Geometry(SIDE).as_json()}
    facts |= {"synthetic": False, "shard_rows": files.shard_rows}
    write_json(folder / "pack.json", facts | {"fingerprint": fingerprint(names, None, Geometry(SIDE), [])})
    return open_pack(folder)


def test_a_pack_larger_than_memory_is_read_row_by_row(huge):
    from training.augment.prepare import read_rows

    assert huge.images_nhwc.shape == (ROWS, SIDE, SIDE, 3)
    assert sum((huge.path / f"images.{i:03d}.npy").stat().st_size for i in range(9)) > 34e9
    before = anonymous_bytes()
    order = np.random.default_rng(0).permutation(huge.rows("train"))
    for start in range(0, 640, 64):
        assert read_rows(huge, order[start : start + 64]).shape == (64, SIDE, SIDE, 3)
    assert anonymous_bytes() - before < 100e6


def anonymous_bytes() -> int:
    """Return the memory of this process that is not a file's: maps of files are given up when memory is short."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def test_the_order_of_an_epoch_is_a_full_shuffle_over_all_shards(huge):
    from training.batches import Batches
    from training.recipes import load_recipe

    batches = Batches(huge, load_recipe("after"), 0, (0.5, 0.5, 0.5))
    rows = huge.rows("train")
    first, second = batches.order(0), batches.order(1)
    assert np.array_equal(np.sort(first), rows)
    shard = first // huge.metadata["shard_rows"]
    held = np.bincount(rows // huge.metadata["shard_rows"])
    batch = shard[: 128 * 200].reshape(200, 128)
    assert min(len(set(shards)) for shards in batch.tolist()) == len(held)  # every batch draws on every shard
    assert chisquare(np.bincount(batch.ravel()), held / held.sum() * batch.size).pvalue > 1e-3
    assert kstest(np.abs(np.diff(first[:20_000])) / len(rows), lambda x: 2 * x - x**2).pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    assert abs(np.corrcoef(np.argsort(first), np.arange(len(rows)))[0, 1]) < 0.01
