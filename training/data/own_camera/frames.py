"""The frames of the user's own camera: a folder of pictures, a video, or a recording of the runner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from core.data.picture_files import scan
from core.data.recording import (
    ClassifiedRegion,
    DamagedLine,
    classified_regions,
    configuration_in,
    is_recording,
    read_decisions,
    read_facts,
)
from core.errors import InputError
from training.data.detections.annotation_files import source_of
from training.data.source_files import recorded_frame_source, video_frames

GROUP_S, MIN_GROUPS = 10.0, 20
"""The length of the groups of a video, in seconds; they are shorter if there would be fewer than MIN_GROUPS."""


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One frame that crops are cut from."""

    source: str
    group: str
    number: int = 0
    """The number that the runner gave a recorded frame."""
    regions: tuple[ClassifiedRegion, ...] = ()
    """The regions of a recorded frame that were given a class."""
    detected: int = 0
    """The boxes of the detector in a recorded frame, with a class or without."""


def list_frames(source: Path, root: Path) -> tuple[list[CameraFrame], list[str]]:
    """Return the frames of a folder of pictures, each its own group, of a video or of a recording, and warnings.

    root: the folder that their sources are relative to. Raises InputError when there is no frame.
    """
    place, warnings = source.resolve(), list[str]()
    if is_recording(place):
        frames, warnings = _read_recording(place, root)
    elif place.is_dir():
        names = [source_of(file, root) for file in scan(place).pictures]
        frames = [CameraFrame(name, name) for name in names]
    elif place.is_file():
        count, fps = video_frames(place)
        name = source_of(place, root)
        frames = [CameraFrame(recorded_frame_source(name, i), name) for i in range(count)]
        frames, warnings = _in_groups(frames, fps)
    else:
        raise InputError(f"{source} does not exist: give a folder of pictures, a video or a recording of your camera")
    if not frames:
        raise InputError(f"{source} holds no frame: give a folder of pictures, a video or a recording of your camera")
    return frames, warnings


def _read_recording(folder: Path, root: Path) -> tuple[list[CameraFrame], list[str]]:
    """Return the frames of a recording; a decision without a picture, as of a lost camera, is no frame."""
    facts = read_facts(folder)
    configuration = configuration_in(folder, facts)
    has_detector = configuration is not None and configuration.detector is not None
    name = source_of(folder, root)
    frames, damaged = [], []
    for line in read_decisions(folder):
        if isinstance(line, DamagedLine):
            damaged.append(f"{line.index}, line {line.number}")
        elif line.picture is not None:
            source = recorded_frame_source(source_of(line.index, root), line.number)
            number, regions = classified_regions(line)
            detected = len(line.body["zones"]) if has_detector else 0
            frames.append(CameraFrame(source, name, number, regions, detected))
    warnings = [f"left out: {len(damaged)} damaged frames of {folder}, first {damaged[0]}"] if damaged else []
    if facts.get("synthetic"):
        warnings.append(f"{folder} was recorded from the synthetic camera")
    frames, short = _in_groups(frames, facts["fps"])
    return frames, warnings + short


def _in_groups(frames: list[CameraFrame], fps: float) -> tuple[list[CameraFrame], list[str]]:
    """Return the frames of one film in groups that follow each other, and a warning where it is too short for them."""
    # parts and not frames: neighboring frames are nearly one picture, and a group never spans two splits
    length = max(1, min(round(GROUP_S * fps), len(frames) // MIN_GROUPS))
    warnings = list[str]()
    if frames and length < round(GROUP_S * fps):
        warnings.append(
            f"{frames[0].group} is {len(frames) / fps:.1f} s of film: background is drawn in groups of "
            f"{length / fps:.1f} s, so nearly the same road lies in train, val and test; "
            f"film {GROUP_S * MIN_GROUPS:.0f} s or more"
        )
    grouped = [replace(frame, group=f"{frame.group}, part {index // length}") for index, frame in enumerate(frames)]
    return grouped, warnings
