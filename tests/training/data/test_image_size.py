"""The size that a header says is the size that decodes, whichever way the picture is turned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from training.data.source_files import image_size


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif"])
def test_the_size_is_the_decoded_one(tmp_path, suffix, orientation):
    file = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    extra = {"tiffinfo": {0x0112: orientation}} if suffix == ".tiff" else {"exif": exif}
    Image.new("RGB", (80, 40), (200, 20, 20)).save(file, **extra)
    frame = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if frame is None:
        pytest.skip(f"this OpenCV reads no {suffix}")
    assert image_size(file) == frame.shape[1::-1]


def test_an_orientation_in_xmp_alone_turns_nothing(tmp_path):
    file = tmp_path / "turned.jpg"
    Image.new("RGB", (80, 40)).save(file, xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>')
    frame = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert image_size(file) == frame.shape[1::-1] == (80, 40)
