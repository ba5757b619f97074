"""A pack larger than memory: an epoch begins and goes on without holding more than its batches."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from core.data.pack import COLUMNS, SCHEMA, open_pack, shard_name
from core.geometry.preprocess import Geometry
from training.augment.prepare import open_preparer
from training.batches import Batches
from training.recipes import load_recipe

ROWS, SIZE_PX, SHARD_ROWS = 252_723, 224, 28_000
"""UVH-26: 38 GB, in shards of 4.2 GB."""
GROWTH_MB = 150
"""A hundred batches of 32 are 480 MB; what stays is a few batches, and the order of the rows."""


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A pack whose images take no room on the disk."""
    path = tmp_path_factory.mktemp("sparse")
    classes = ["a", "b"]
    for number, start in enumerate(range(0, ROWS, SHARD_ROWS)):
        shape = (min(SHARD_ROWS, ROWS - start), SIZE_PX, SIZE_PX, 3)
        with (path / shard_name(number)).open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            stream.truncate(stream.tell() + int(np.prod(shape)))
    lines = [f"{row},{classes[row % 2]},{'val' if row % 100 == 0 else 'train'},g,s,\n" for row in range(ROWS)]
    (path / "rows.csv").write_text(",".join(COLUMNS) + "\n" + "".join(lines))
    facts = {"schema": SCHEMA, "classes": classes, "background": None, "geometry": Geometry(SIZE_PX).as_json(),
             "synthetic": True, "fingerprint": "sparse", "shard_rows": SHARD_ROWS}  # fmt: skip
    (path / "pack.json").write_text(json.dumps(facts))
    return path


def memory_mb(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1000


def begin_an_epoch(path):
    """Return what a hundred batches, of an epoch that is not the first, added to this process's own memory, in MB."""
    pack, recipe = open_pack(path), dataclasses.replace(plain(), batch=32)
    batches = Batches(pack, recipe, 0, open_preparer(pack, (0.5, 0.5, 0.5)))
    before, epoch = memory_mb("RssAnon"), batches.prepare_epoch(3)
    for _ in range(100):
        batches.finish(next(epoch))
    epoch.close()
    return memory_mb("RssAnon") - before


def plain():
    """Return a recipe without augmentation, which is not what is measured."""
    zeros = dict.fromkeys(("flip_p", "rotation_deg", "brightness", "contrast", "saturation", "hue", "translate",
                           "perspective_p", "grayscale_p", "erase_p"), 0.0)  # fmt: skip
    return dataclasses.replace(load_recipe("after"), scale_min=1.0, scale_max=1.0, **zeros)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_pack_of_38_gb_is_trained_on_in_little_memory(sparse):
    assert sum(file.stat().st_size for file in sparse.glob("*.npy")) > 38e9
    assert begin_an_epoch(sparse) < GROWTH_MB


def test_the_shuffle_of_a_large_pack_is_a_full_one(sparse):
    """Every row once, in an order that has to do neither with the rows' own nor with another epoch's."""
    pack = open_pack(sparse)
    batches = Batches(pack, load_recipe("after"), 0, open_preparer(pack, (0.5, 0.5, 0.5)))
    first, second = batches.order(0), batches.order(1)
    assert np.array_equal(np.sort(first), pack.rows("train"))
    n = len(first)
    for other in (np.arange(n), second):
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(n)
    neighbours = np.abs(np.diff(first))
    assert neighbours.mean() == pytest.approx(ROWS / 3, rel=0.02)  # of a uniform order; a shuffle in blocks is below
    shards = first[: 128 * 50] // SHARD_ROWS
    share = np.bincount(shards, minlength=10)[:9] / len(shards)
    assert np.allclose(share, SHARD_ROWS / ROWS, atol=0.02)  # each shard is in the first batches already
