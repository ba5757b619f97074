"""Recognizes files of other kinds that are given in place of an ONNX file."""

from __future__ import annotations

from pathlib import Path

from core.data.picture_files import check_utf8
from core.errors import InputError

EXPORT = "export it to ONNX with the tool that trained it, as Ultralytics' `yolo export format=onnx` does"
SOURCE = "give the ONNX file that it was made from"
KINDS = (
    (0, b"PK\x03\x04", "a checkpoint of PyTorch or another zip archive", EXPORT),
    (0, b"\x80\x02", "a checkpoint of PyTorch, a pickle", EXPORT),
    (0, b"ftrt", "a TensorRT engine", f"{SOURCE}; `python -m inference build FILE.onnx` builds the engine beside it"),
    (4, b"TFL3", "a model of TensorFlow Lite", SOURCE),
    (0, b"\x89HDF", "a model of Keras", EXPORT),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it with `git lfs pull`"),
    (0, b"<?xml", "an XML file, as of OpenVINO", SOURCE),
    (0, b"<", "a web page", "download the file itself"),
)
"""(where it stands, the bytes by which a kind is recognized, its name, the hint); the first that fits counts."""
SUFFIXES = {
    ".safetensors": ("a file of weights without their network", EXPORT),
    ".engine": KINDS[2][2:],
    ".plan": KINDS[2][2:],
}
HEAD_BYTES = 256


def check_not_foreign(path: Path) -> None:
    """Raise InputError for a file that is recognized as none of ONNX: it says what the file is, and what to give."""
    check_utf8(path)
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    kind = _kind_of(path, head)
    if kind:
        raise InputError(f"{path} is {kind[0]}, no ONNX file: {kind[1]}")


def _kind_of(path: Path, head: bytes) -> tuple[str, str] | None:
    if not head:
        return "empty", "give the ONNX file, copied as a whole"
    for at, signature, name, hint in KINDS:
        if head[at:].startswith(signature):
            return name, hint
    # a protocol buffer has control bytes near its beginning
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "a text file", "give the detector's network, a binary file"
    return SUFFIXES.get(path.suffix.lower())
