"""Background of one's own camera: crops inside its frames, half of them at hard places, none with an object."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from tests.export.runs import train, write_small_pack
from tests.training.data.detection_sets import write_images, write_kitti
from training.data.importers import read_listing
from training.data.listing import PackOptions
from training.data.own_camera import background_frames
from training.data.own_camera.background_frames import _object_test, draw_rect
from training.data.pack_writer import write_pack
from training.data.source_files import load_file


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder data set of two classes, 12 pictures each."""
    for name in ("bus", "car"):
        write_images(tmp_path / "set" / name, {f"{name}{i}.png": (60 + i, 50) for i in range(12)})
    return tmp_path / "set"


@pytest.fixture
def frames(tmp_path) -> Path:
    write_images(tmp_path / "frames", {f"f{i}.png": (160, 120) for i in range(9)})
    return tmp_path / "frames"


def video(file: Path, frames: int = 60, fps: float = 10) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), fps, (160, 120))
    for i in range(frames):
        noise = np.random.default_rng(i).integers(0, 256, (12, 16, 3), np.uint8)
        writer.write(cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC))
    writer.release()
    return file


def test_background_is_as_much_as_a_class_and_lies_inside_the_frames(source, frames):
    listing = read_listing(str(source), PackOptions(background_from=frames))
    drawn = [sample for sample in listing.samples if sample.unmarked]
    assert (listing.background, listing.classes, len(drawn)) == ("background", ("bus", "car", "background"), 12)
    assert len({sample.source for sample in drawn}) == 9
    for sample in drawn:
        x0, y0, x1, y1 = sample.box
        assert 0 <= x0 < x1 <= 160
        assert 0 <= y0 < y1 <= 120
        assert min(x1 - x0, y1 - y0) >= 12
        assert load_file(listing.root, sample.source).shape == (120, 160, 3)


def test_a_pack_of_a_folder_and_a_video_is_whole_and_reused(source, tmp_path):
    options = PackOptions(size_px=32, background_from=video(tmp_path / "drive.mp4"), background=20)
    made = write_pack(str(source), tmp_path / "pack", options)
    assert [made.counts[split]["background"] > 0 for split in ("train", "val", "test")] == [True] * 3
    groups = {}
    for group, split in zip(made.groups_n, made.splits_n, strict=True):
        groups.setdefault(group, set()).add("train" if split == "calibration" else split)
    assert all(len(splits) == 1 for splits in groups.values())
    assert write_pack(str(source), tmp_path / "pack", options).fingerprint == made.fingerprint
    with pytest.raises(InputError, match="made with background 20, not 4"):
        write_pack(
            str(source),
            tmp_path / "pack",
            PackOptions(size_px=32, background_from=tmp_path / "drive.mp4", background=4),
        )


def test_a_source_that_is_split_gets_background_in_every_split(tmp_path, frames):
    for split in ("train", "val", "test"):
        for name in ("bus", "car"):
            write_images(tmp_path / "set" / split / name, {f"{split}{name}{i}.png": (60, 50 + i) for i in range(6)})
    listing = read_listing(str(tmp_path / "set"), PackOptions(background_from=frames, background=18))
    assert {sample.split for sample in listing.samples if sample.unmarked} == {"train", "val", "test"}


@pytest.mark.parametrize(("fps", "seconds", "warned"), [(0.1, 600, False), (10, 6, True)])
def test_a_film_too_short_for_groups_of_ten_seconds_is_said_to_be(source, tmp_path, fps, seconds, warned):
    listing = read_listing(str(source), PackOptions(background_from=video(tmp_path / "drive.mp4", fps=fps)))
    said = [warning for warning in listing.warnings if f"is {seconds:.1f} s of film" in warning]
    assert len(said) == warned
    assert all("in groups of 0.3 s" in warning for warning in said)


def test_a_frame_of_a_video_is_found_by_its_number(tmp_path):
    file = video(tmp_path / "drive.mp4", 12)
    capture = cv2.VideoCapture(str(file))
    for i in range(12):
        assert np.array_equal(capture.read()[1], load_file("", f"{file}#{i}"))
    assert np.array_equal(load_file("", f"{file}#3"), load_file(str(tmp_path), "drive.mp4#3"))
    assert "cannot be read" in load_file("", f"{file}#99")


def test_what_the_model_is_sure_of_is_no_background(source, frames, monkeypatch):
    monkeypatch.setattr(
        background_frames, "_object_test", lambda path, label: lambda crop: crop.shape[0] > crop.shape[1]
    )
    listing = read_listing(str(source), PackOptions(background_from=frames, background_model=Path("best.safetensors")))
    drawn = [sample.box for sample in listing.samples if sample.unmarked]
    assert len(drawn) == 12
    assert all(y1 - y0 <= x1 - x0 for x0, y0, x1, y1 in drawn)
    monkeypatch.setattr(background_frames, "_object_test", lambda path, label: lambda crop: True)
    with pytest.raises(InputError, match="no crop without an object"):
        read_listing(str(source), PackOptions(background_from=frames, background_model=Path("best.safetensors")))


def test_the_judge_is_a_trained_network_with_its_own_threshold(tmp_path):
    write_small_pack(tmp_path / "pack")
    trained = train(tmp_path / "pack", steps=60)
    red = np.full((40, 60, 3), 60, np.uint8)
    red[..., 2] = 220
    said = []
    for background, threshold in (("blue", 0.5), ("red", 0.5), ("blue", 1.0)):
        facts = replace(trained.metadata, background=background, abstain_threshold=threshold)
        replace(trained, metadata=facts).save(tmp_path / "best.safetensors")
        said.append(_object_test(tmp_path / "best.safetensors", "background")(red))
    assert said == [True, False, False]


@given(seed=st.integers(0, 999), width=st.integers(20, 300), height=st.integers(20, 300), hard=st.booleans())
def test_a_rectangle_lies_inside_its_frame(seed, width, height, hard):
    x0, y0, x1, y1 = draw_rect(np.zeros((height, width, 3), np.uint8), random.Random(seed), hard=hard)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height


def test_a_hard_place_has_more_edges_than_a_random_one():
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[100:, 100:] = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    means = [
        np.mean(
            [
                pixels[y0:y1, x0:x1].mean()
                for s in range(60)
                for x0, y0, x1, y1 in [draw_rect(pixels, random.Random(s), hard=hard)]
            ]
        )
        for hard in (False, True)
    ]
    assert means[1] > 1.5 * means[0]


@pytest.mark.parametrize(
    ("given_source", "said"),
    [("nothing", "does not exist"), ("empty", "holds no frame"), ("a.txt", "cannot be opened")],
)
def test_frames_that_are_none_are_one_sentence(source, tmp_path, given_source, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("no video")
    with pytest.raises(InputError, match=said):
        read_listing(str(source), PackOptions(background_from=tmp_path / given_source))


def test_a_detection_set_has_background_of_its_own(tmp_path, frames):
    root = write_kitti(tmp_path / "kitti", {"a.png": (200, 100)}, {"a.png": [("car", (10, 10, 60, 60))]})
    with pytest.raises(InputError, match="background of its own"):
        read_listing(str(root), PackOptions(background_from=frames))
    with pytest.raises(InputError, match="--background-from"):
        PackOptions(background_model=Path("best.safetensors"))
