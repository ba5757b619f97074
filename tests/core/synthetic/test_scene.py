"""The synthetic rear view: deterministic, balanced, and what its truth says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.geometry.preprocess import Geometry, clip_rect, fill
from core.synthetic import (
    BACKGROUND,
    CLASSES,
    SCENARIOS,
    ZONES,
    Scene,
    draw_frame,
    draw_zone_crops,
    plan_crops,
    plan_frames,
    scene_frame_name,
    zone_rects,
)
from core.synthetic.drawing import Body, View
from core.synthetic.figures import box_of, draw_actor
from core.synthetic.traffic import FAR_M, SLOT_S, actor_of

SMALL = {"width": 320, "height": 180}


def test_a_frame_depends_on_seed_and_index_alone_and_not_on_the_order_of_calls():
    forward, backward = Scene(7, **SMALL), Scene(7, **SMALL)
    indices = [0, 31, 400, 1000]
    first = {i: forward.render(i) for i in indices}
    for i in reversed(indices):
        frame, truth = backward.render(i)
        assert np.array_equal(frame, first[i][0])
        assert truth == first[i][1]


def test_other_seeds_and_other_indices_give_other_frames():
    frames = [Scene(seed, **SMALL).render(index)[0].tobytes() for seed in (1, 2) for index in (0, 1)]
    assert len(set(frames)) == 4


def test_a_rendered_frame_belongs_to_the_caller():
    scene = Scene(3, **SMALL)
    kept = scene.render(5)[0].copy()
    scene.render(5)[0][:] = 0
    assert np.array_equal(scene.render(5)[0], kept)


@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**7), fps=st.sampled_from([5.0, 30.0]))
@settings(max_examples=60)
def test_truth_names_every_zone_and_only_known_classes(seed, index, fps):
    truth = Scene(seed, 64, 64, fps=fps).ground_truth(index)
    assert set(truth) == set(ZONES)
    assert set(truth.values()) <= set(CLASSES)


def test_objects_of_every_class_come_and_go_in_every_zone():
    scene = Scene(1, **SMALL)
    truths = [scene.ground_truth(i) for i in range(0, 30 * 600, 15)]
    for zone in ZONES:
        seen = [truth[zone] for truth in truths]
        assert set(seen) == set(CLASSES)
        assert sum(a != b for a, b in itertools.pairwise(seen)) > 50


def test_truth_is_clear_when_nobody_is_near():
    scene = Scene(2, **SMALL)
    for index in range(0, 3000, 37):
        time_s = index / scene.fps
        for lane, zone in enumerate(ZONES):
            actor = actor_of(2, zone, int((time_s - lane * SLOT_S / 3) // SLOT_S))
            near = actor is not None and actor.distance_m(time_s) <= FAR_M
            expected = actor.label if near and actor is not None else BACKGROUND
            assert scene.ground_truth(index)[zone] == expected


def test_an_object_is_drawn_where_the_truth_says():
    """The pixels of a zone change when its actor alone is taken away."""
    import core.synthetic.scene as camera

    scene = Scene(4, **SMALL, scenario="day")
    index = next(i for i in range(0, 9000, 7) if scene.ground_truth(i)["ego"] == "car")
    with_actor = scene.render(index)[0].astype(int)
    everyone = camera.actors_at
    try:
        camera.actors_at = lambda seed, time_s: [a for a in everyone(seed, time_s) if a.zone != "ego"]
        without = scene.render(index)[0].astype(int)
    finally:
        camera.actors_at = everyone
    x0, y0, x1, y1 = zone_rects(**SMALL)["ego"]
    change = np.abs(with_actor - without).max(2) > 20
    assert change[y0:y1, x0:x1].mean() > 0.02
    assert change[y0:y1, x0:x1].sum() > 0.8 * change.sum()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_renders(scenario):
    frame, _ = Scene(5, **SMALL, scenario=scenario).render(10)
    assert frame.shape == (180, 320, 3)
    assert frame.dtype == np.uint8


def test_night_is_darker_than_day():
    def light(scenario):
        return np.mean([Scene(s, **SMALL, scenario=scenario).render(0)[0].mean() for s in range(4)])

    assert light("night") < 0.6 * light("day")


@pytest.mark.parametrize(
    "wrong", [{"scenario": "fog"}, {"width": 10}, {"height": 9000}, {"fps": 0}], ids=lambda w: next(iter(w))
)
def test_a_wrong_argument_is_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)) if "fps" in wrong or "scenario" in wrong else "size"):
        Scene(**wrong)


@given(n=st.integers(60, 400), seed=st.integers(0, 65535))
@settings(max_examples=10)
def test_a_plan_is_balanced_true_and_without_repeats(n, seed):
    plan = plan_crops(n, seed)
    counts = [sum(crop.label == label for crop in plan) for label in CLASSES]
    assert sum(counts) == n
    assert max(counts) - min(counts) <= 1
    assert len({(c.scene_seed, c.index, c.zone) for c in plan}) == n
    assert all(Scene(c.scene_seed, 64, 64).ground_truth(c.index)[c.zone] == c.label for c in plan[::17])


def test_crops_are_the_camera_frame_through_the_one_preprocessing():
    plan, geometry = plan_crops(60, 9)[:5], Geometry(48)
    for crop, rect, pixels in draw_zone_crops(plan, geometry, **SMALL):
        frame, truth = Scene(crop.scene_seed, **SMALL).render(crop.index)
        expected = geometry.empty(1)
        fill(expected, frame, [rect], geometry)
        assert truth[crop.zone] == crop.label
        assert np.array_equal(pixels, expected[0])


@pytest.mark.parametrize("label", CLASSES[:-1])
def test_the_box_of_an_object_is_what_it_paints(label, monkeypatch):
    """Without shadow, lamps and what hides it, an actor changes the pixels of its box, give or take its arms."""
    monkeypatch.setattr(Body, "shadow", lambda _: None)
    view = View.of(1280, 720, "day", 1.0)
    actors = (actor_of(seed, zone, slot) for seed in range(40) for zone in ZONES for slot in range(4))
    chosen = [replace(a, occluded=0.0) for a in actors if a is not None and a.label == label][:12]
    assert len(chosen) == 12
    for actor in chosen:
        frame = np.full((720, 1280, 3), 255, np.uint8)
        draw_actor(frame, view, actor, 8.0)
        rows, columns = np.nonzero((frame != 255).any(2))
        painted = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        box = clip_rect(box_of(view, actor, 8.0), 1280, 720)
        slack = 0.08 * max(box[2] - box[0], box[3] - box[1]) + 2
        assert np.abs(np.subtract(box, painted)).max() <= slack, (actor, box, painted)


def test_objects_that_count_are_those_of_the_truth():
    scene = Scene(3, 640, 360)
    for index in range(0, 1800, 60):
        near = sorted(label for label, _, counts in scene.objects(index) if counts)
        assert near == sorted(label for label in scene.ground_truth(index).values() if label != BACKGROUND)


def test_a_named_frame_is_the_frame_of_its_scene():
    assert np.array_equal(draw_frame(scene_frame_name("day", 3, 40)), Scene(3, scenario="day").render(40)[0])


def test_planned_frames_are_different_and_of_many_scenes():
    plan = plan_frames(240, 1)
    assert len({*plan}) == 240
    assert len({scene for scene, _ in plan}) == 60
