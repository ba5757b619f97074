from __future__ import annotations

import shutil

import pytest
import torch

from core.data.pack import open_pack
from export.assemble import add_fp32, begin_bundle
from export.commands import bundle as command
from tests.export import runs


@pytest.fixture(scope="session")
def pack_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("colours") / "pack"
    runs.write_small_pack(path)
    return path


@pytest.fixture(scope="session")
def pack(pack_path):
    return open_pack(pack_path)


@pytest.fixture(scope="session")
def checkpoint(pack_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # the last bits of a sum, and so of every export, depend on it: for this network alone
    try:
        return runs.train(pack_path)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fp32(checkpoint, pack, tmp_path_factory):
    """The fp32 graph of the checkpoint, as export makes it."""
    folder = tmp_path_factory.mktemp("fp32")
    checkpoint.save(folder / "best.safetensors")
    network = checkpoint.build_network()
    builder = begin_bundle(folder / "best.safetensors", checkpoint, network, pack, folder, runs.SIZE_PX)
    return add_fp32(builder, network)


@pytest.fixture(scope="session")
def exported(checkpoint, pack_path, tmp_path_factory):
    """A run that was exported by the command, with TensorRT-RTX engines for SM86. Not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "colours"
    runs.write_run(path, pack_path, [checkpoint])
    assert command.main([str(path), "--sm", "86"]) == 0
    return path


@pytest.fixture
def run_path(checkpoint, pack_path, tmp_path):
    """A run that was not exported yet."""
    path = tmp_path / "runs" / "colours"
    runs.write_run(path, pack_path, [checkpoint])
    return path


@pytest.fixture
def bundle_path(exported, tmp_path):
    """A copy of the exported bundle, to be damaged."""
    return shutil.copytree(exported / runs.ARCH / "bundle", tmp_path / "bundle")
