"""Geometry: `fill` against a slow, plain twin, and its edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.errors import InputError
from core.geometry.preprocess import KERNELS, Geometry, clip_rect, decode, fill, whole

coordinates = st.integers(-60, 160)
rects = st.tuples(coordinates, coordinates, coordinates, coordinates)


def weights(length: int, size: int, kernel: str, shrinks: bool) -> np.ndarray:
    """Return the (size, length) matrix of one axis, one output pixel at a time."""
    matrix = np.zeros((size, length))
    scale = length / size
    for i in range(size):
        if kernel == "area" and shrinks:
            for j in range(length):
                matrix[i, j] = max(0.0, min(j + 1, (i + 1) * scale) - max(j, i * scale)) / scale
        elif kernel == "area":  # an axis is enlarged: OpenCV's area is then nearest with a linear seam
            inverse = size / length  # and where i * scale is a whole number it may, so rounded, take the pixel before
            low = int(np.floor(i * (1 / inverse)))
            part = float(np.float32((i + 1) - (low + 1) * inverse))
            part = 0.0 if part <= 0 else part - np.floor(part)
            matrix[i, min(low, length - 1)] += 1 - part
            matrix[i, min(low + 1, length - 1)] += part
        else:
            centre = (i + 0.5) * scale - 0.5
            low = int(np.floor(centre))
            for j, w in ((low, 1 - (centre - low)), (low + 1, centre - low)):
                matrix[i, min(max(j, 0), length - 1)] += w
    return matrix


def plain_halve(crop: np.ndarray) -> np.ndarray:
    """Average 2x2 pixels, halves up, one output pixel at a time."""
    half = np.zeros((crop.shape[0] // 2, crop.shape[1] // 2, 3))
    for y in range(half.shape[0]):
        for x in range(half.shape[1]):
            half[y, x] = np.floor(crop[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((0, 1)) + 0.5)
    return half


def plain_fill(frame_bgr: np.ndarray, rect: tuple[int, int, int, int], geometry: Geometry) -> np.ndarray:
    """Crop, stretch and turn to RGB with a matrix an axis: float64 (S, S, 3)."""
    x0, y0, x1, y1 = rect
    crop = frame_bgr[y0:y1, x0:x1, ::-1].astype(np.float64)
    while geometry.kernel == "halving" and min(crop.shape[:2]) >= 2 * geometry.size_px:
        crop = plain_halve(crop)
    y0, x0, y1, x1 = 0, 0, *crop.shape[:2]
    shrinks = min(y1 - y0, x1 - x0) >= geometry.size_px
    rows = weights(y1 - y0, geometry.size_px, geometry.kernel, shrinks)
    columns = weights(x1 - x0, geometry.size_px, geometry.kernel, shrinks)
    return np.einsum("ih,hwc,jw->ijc", rows, crop, columns)


@given(
    frame=hnp.arrays(np.uint8, st.tuples(st.integers(2, 150), st.integers(2, 150), st.just(3))),
    rect=rects,
    size=st.integers(32, 48),
    kernel=st.sampled_from(sorted(KERNELS)),
)
@settings(max_examples=80)
def test_fill_equals_the_plain_twin_within_a_grey_level(frame, rect, size, kernel):
    geometry = Geometry(size, kernel)
    out_nhwc = geometry.empty(1)
    fill(out_nhwc, frame, [rect], geometry)
    expected = plain_fill(frame, clip_rect(rect, frame.shape[1], frame.shape[0]), geometry)
    assert np.abs(out_nhwc[0] - expected).max() <= 1.0


@pytest.mark.parametrize("size", [34, 36, 40, 44, 45, 46])
def test_area_enlarges_whole_multiples_as_its_twin_does(size):
    geometry = Geometry(size, "area")
    for width in range(2, size):
        frame = np.random.default_rng(width).integers(0, 256, (2, width, 3), np.uint8)
        fill(out_nhwc := geometry.empty(1), frame, [(0, 0, width, 2)], geometry)
        assert np.abs(out_nhwc[0] - plain_fill(frame, (0, 0, width, 2), geometry)).max() <= 1.0, width


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_a_crop_of_the_input_size_is_copied_exactly(kernel):
    frame = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    geometry = Geometry(32, kernel)
    out_nhwc = geometry.empty(1)
    fill(out_nhwc, frame, [(9, 5, 41, 37)], geometry)
    assert np.array_equal(out_nhwc[0], frame[5:37, 9:41, ::-1])


def test_fill_leaves_the_frame_and_the_rows_past_the_rectangles_alone():
    frame = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    kept, geometry = frame.copy(), Geometry(32)
    out_nhwc = np.full((3, 32, 32, 3), 77, np.uint8)
    fill(out_nhwc, frame, [(0, 0, 20, 20), whole(frame)], geometry)
    assert np.array_equal(frame, kept)
    assert (out_nhwc[2] == 77).all()
    assert not (out_nhwc[:2] == 77).all()


@given(rect=rects, width=st.integers(1, 100), height=st.integers(1, 100))
def test_a_clipped_rectangle_is_inside_never_empty_and_stable(rect, width, height):
    x0, y0, x1, y1 = clipped = clip_rect(rect, width, height)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    assert clip_rect(clipped, width, height) == clipped


@given(rect=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(41, 80), st.integers(41, 80)))
def test_a_rectangle_inside_is_not_changed(rect):
    assert clip_rect(rect, 80, 80) == rect


@given(size=st.integers(32, 512), kernel=st.sampled_from(sorted(KERNELS)))
def test_geometry_survives_json(size, kernel):
    assert Geometry.from_json(Geometry(size, kernel).as_json()) == Geometry(size, kernel)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size_px": 31}, "size_px"),
        ({"size_px": 513}, "size_px"),
        ({"size_px": True}, "size_px"),
        ({"size_px": 64.0}, "size_px"),
        ({"kernel": "cubic"}, "kernel"),
        ({"colour": "bgr"}, "colour"),
        ({"fit": "letterbox"}, "fit"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_geometry_of_another_kind_is_refused_by_name(change, named):
    with pytest.raises(InputError, match=named):
        Geometry.from_json(Geometry(64).as_json() | change)


@given(data=st.binary(max_size=200))
@settings(max_examples=50)
def test_bytes_that_are_no_image_decode_to_none(data):
    assert decode(data) is None or data[:2] in (b"BM", b"P5", b"P6")


def test_an_image_file_reads_as_bgr_pixels(tmp_path):
    frame = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    assert np.array_equal(decode((tmp_path / "a.png").read_bytes()), frame)


@pytest.mark.parametrize("shape", [(64, 64), (131, 203), (257, 128), (260, 513)])
def test_halving_equals_the_plain_twin_where_it_halves(shape):
    frame = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    geometry = Geometry(32, "halving")
    out_nhwc = geometry.empty(1)
    fill(out_nhwc, frame, [whole(frame)], geometry)
    assert np.abs(out_nhwc[0] - plain_fill(frame, whole(frame), geometry)).max() <= 1.0


def test_halving_averages_noise_away_as_area_does_and_linear_does_not():
    frame = np.random.default_rng(4).normal(128, 40, (512, 512, 3)).clip(0, 255).astype(np.uint8)
    left = {}
    for kernel in KERNELS:
        out_nhwc = Geometry(64, kernel).empty(1)
        fill(out_nhwc, frame, [whole(frame)], Geometry(64, kernel))
        left[kernel] = out_nhwc.std()
    assert left["halving"] < 1.5 * left["area"]
    assert left["linear"] > 3 * left["area"]
