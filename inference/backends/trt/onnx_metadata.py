"""Reads an ONNX file without the onnx package, which a device does not have: metadata, and where its weights lie.

TensorRT's parser does not tell it, and an engine does not hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from core.errors import InputError

METADATA = 14
"""The field `metadata_props` of a ModelProto, entries of a key, 1, and a value, 2. Source: onnx/onnx.proto."""
GRAPH, WEIGHTS, EXTERNAL = 7, 5, 13
"""The fields `graph` of a ModelProto, `initializer` of a GraphProto and `external_data` of a TensorProto."""
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""How a field is written. Source: the encoding of protocol buffers, "Message Structure"."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file; what there is up to the damage where it is damaged."""
    found = {}
    with suppress(IndexError):  # the file ends inside a field
        for number, entry in _fields(memoryview(path.read_bytes())):
            if number == METADATA:
                texts = {key: bytes(text).decode(errors="replace") for key, text in _fields(entry)}
                found[texts.get(1, "")] = texts.get(2, "")
    return found


def check_one_file(path: Path) -> None:
    """Raise InputError where weights lie in another file: no hash of ours would see that they change."""
    with suppress(IndexError):  # damaged: what opens it says so
        graphs = [entry for number, entry in _fields(memoryview(path.read_bytes())) if number == GRAPH]
        tensors = [entry for graph in graphs for number, entry in _fields(graph) if number == WEIGHTS]
        if any(number == EXTERNAL for tensor in tensors for number, _ in _fields(tensor)):
            raise InputError(
                f"{path} keeps its weights in another file, which no hash of ours holds: save it as one, by"
                " onnx.save(onnx.load(FILE), FILE)"
            )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the content of each field of a message that holds bytes; the others are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, at = _varint(message, at)
        elif kind == BYTES:
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif kind in (FIXED_64, FIXED_32):
            at += 8 if kind == FIXED_64 else 4
        else:
            raise IndexError(at)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number, seven bits in each byte, the lowest first, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
