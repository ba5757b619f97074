"""Boxes become whole pixels, crops hold their boxes, and background overlaps none."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.geometry.preprocess import crop_rect
from training.data.detections.annotated_boxes import GRID, AnnotatedBox, AnnotatedPicture, overlaps, snap
from training.data.detections.background import sample_background
from training.data.listing import PackOptions, Sample

sides = st.integers(1, 2000)
edges = st.floats(-50, 2050, allow_nan=False)


@st.composite
def placed(draw) -> tuple[tuple[float, float, float, float], int, int]:
    """Return a box that has at least a pixel inside its image, and the image's width and height."""
    width, height = draw(sides), draw(sides)
    x0, y0 = draw(st.floats(-50, width - 1)), draw(st.floats(-50, height - 1))
    return (x0, y0, max(x0, 0) + draw(st.floats(1, 900)), max(y0, 0) + draw(st.floats(1, 900))), width, height


@given(it=placed(), margin=st.floats(0, 2))
def test_a_crop_holds_its_box_and_its_margin_inside_the_image(it, margin):
    xyxy, width, height = it
    at = snap(xyxy, width, height)
    x0, y0, x1, y1 = crop_rect(at, margin, width, height)
    assert 0 <= x0 <= at[0]
    assert 0 <= y0 <= at[1]
    assert at[2] <= x1 <= width or x1 == x0 + 1
    assert at[3] <= y1 <= height or y1 == y0 + 1
    for inner, outer, size, limit in ((at[0], x0, at[2] - at[0], 0), (at[1], y0, at[3] - at[1], 0)):
        assert outer == max(limit, inner - round(margin * size)) or size <= 0


@given(xyxy=st.tuples(edges, edges, edges, edges))
def test_a_snapped_edge_is_the_nearest_pixel(xyxy):
    snapped = snap(xyxy, 10**6, 10**6)
    for before, after in zip((max(xyxy[0], 0), max(xyxy[1], 0), *xyxy[2:]), snapped, strict=True):
        assert abs(before - after) <= 0.5 + 1 / GRID


@given(xyxy=st.tuples(*[st.integers(0, 2000)] * 4))
def test_whole_pixels_are_not_moved(xyxy):
    assert snap(xyxy, 2000, 2000) == xyxy


@given(it=st.tuples(*[st.integers(0, 4000)] * 4), noise=st.floats(-1 / 65, 1 / 65))
def test_a_half_pixel_that_a_format_blurred_snaps_the_same(it, noise):
    halves = tuple(value / 2 for value in it)
    blurred = tuple(value + noise for value in halves)
    assert snap(halves, 2000, 2000) == snap(blurred, 2000, 2000)


@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 150)] * 2, *[st.integers(1, 60)] * 2), max_size=6),
    wanted=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50)
def test_background_is_inside_overlaps_nothing_and_is_drawn_the_same_again(boxes, wanted, seed):
    placed_boxes = tuple(
        AnnotatedBox("car", (x, y, x + w, y + h), skip="crowd" if w % 2 else None) for x, y, w, h in boxes
    )
    pictures = [AnnotatedPicture("a.png", 200, 150, None, placed_boxes), AnnotatedPicture("b.png", 60, 50, None)]
    samples = [Sample("a.png", "car", "a", None, (0, 0, 40, 30)), Sample("a.png", "car", "a", None, (0, 0, 70, 20))]
    options = PackOptions(seed=seed)
    drawn = sample_background(pictures, samples, wanted, "clear", options, str)
    assert len(drawn) <= wanted
    assert drawn == sample_background(pictures, samples, wanted, "clear", options, str)
    for i, sample in enumerate(drawn):
        picture = pictures[sample.source == "b.png"]
        assert crop_rect(sample.box, 0, picture.width, picture.height) == sample.box
        others = [snap(b.xyxy, 200, 150) for b in picture.boxes]
        others += [d.box for d in drawn[:i] if d.source == sample.source]
        assert not any(overlaps(sample.box, other) for other in others)
