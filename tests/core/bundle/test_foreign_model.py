"""A file of another kind in place of an ONNX file or a bundle is named, with what to give instead."""

import io
import os
import re
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from core.bundle.contract import open_bundle
from core.bundle.foreign_model import check_not_foreign
from core.errors import InputError
from core.geometry.detector_config import DetectorFile
from inference.backends import open_network
from inference.backends.trt import build_detector
from tests.bundles import make_bundle


def checkpoint(**how) -> bytes:
    stream = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, stream, **how)
    return stream.getvalue()


FILES = [
    ("yolo11n.pt", checkpoint(), "a checkpoint of PyTorch .*: export it to ONNX"),
    ("old.pth", checkpoint(_use_new_zipfile_serialization=False), "a checkpoint of PyTorch, a pickle, .*: export it"),
    ("yolo.engine", b"ftrt\0\0\0\0" + bytes(64), "a TensorRT engine, .*: give the ONNX file that it was made from"),
    ("other.engine", bytes(64), "a TensorRT engine"),
    ("d.tflite", b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite"),
    ("best.safetensors", b"\x40" + bytes(64), "weights without their network"),
    ("ir.xml", b'<?xml version="1.0"?>', "of OpenVINO, .*: give the ONNX file"),
    ("d.onnx", b"<!DOCTYPE html>", "a web page, .*: download the file itself"),
    ("d.onnx", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS, .*: fetch it with `git lfs pull`"),
    ("labels.txt", b"car\ntruck\n", "a text file"),
    ("d.onnx", b"", "empty"),
]


@pytest.mark.parametrize(("name", "content", "said"), FILES, ids=[name for name, _, _ in FILES])
def test_what_is_no_onnx_file_is_named_with_what_to_give(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_network("ort", tmp_path / name)
    with pytest.raises(InputError, match=said):
        build_detector(DetectorFile(tmp_path / name))


def test_an_onnx_file_passes_whatever_its_name(tmp_path):
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", made[:1], made[1:])
    onnx.save(helper.make_model(graph), str(tmp_path / "detector.bin"))
    check_not_foreign(tmp_path / "detector.bin")


def test_a_file_in_place_of_a_bundle_is_answered_with_its_folder(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    for name in ("bundle.json", "model.fp32.onnx"):
        with pytest.raises(InputError, match=f"a bundle is a folder: give {bundle.path}$"):
            open_bundle(bundle.path / name)
    for name, hint in (("a.tar.gz", "unpack it with `tar -xzf"), ("a.pt", "the folder that holds bundle.json")):
        (tmp_path / name).write_bytes(b"\0")
        with pytest.raises(InputError, match=hint):
            open_bundle(tmp_path / name)


def test_a_bundle_or_a_model_that_is_not_named_in_utf8_is_to_be_renamed(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    bundle = make_bundle(tmp_path / "bundle")
    bundle.path.rename(folder)
    for opened in (open_bundle, lambda path: check_not_foreign(path / "model.fp32.onnx")):
        with pytest.raises(InputError, match=r"M\\xfcller.* is not named in UTF-8: rename it") as refused:
            opened(folder)
        str(refused.value).encode()


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("net/bundle", "`python -m export {run}` makes it"),
        ("net", "`python -m export {run}` makes it"),
        ("done", "give {run}/done/bundle"),
        ("production", "`python -m benchmarks {run}` makes it"),
        ("../other", "check the path, or make it with `python -m export RUN`"),
    ],
)
def test_a_bundle_that_was_never_made_comes_with_the_command_that_makes_it(tmp_path, asked, hint):
    run = tmp_path / "run"
    for folder in ("net", "done/bundle"):
        (run / folder).mkdir(parents=True)
    for file in ("run.json", "done/bundle/bundle.json"):
        (run / file).write_text("{}")
    path = run.parent / "other" if asked == "../other" else run / asked
    with pytest.raises(InputError, match=re.escape(f"; {hint.format(run=run)}")) as refused:
        open_bundle(path)
    assert "again" not in str(refused.value)
