"""The importer of the synthetic scene: zones as rows (`synthetic://?rows=3000&seed=1`), or boxes (`?frames=600`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from core.errors import InputError
from core.synthetic import (
    BACKGROUND,
    CLASSES,
    SCENARIOS,
    ZONES,
    Scene,
    draw_frame,
    group_name,
    plan_crops,
    plan_frames,
    scene_frame_name,
    zone_rects,
)
from training.data.class_map import read_class_map
from training.data.detections.annotated_boxes import AnnotatedBox, AnnotatedPicture
from training.data.detections.boxes_to_crops import DetectionSet, SkipCounts, label_frames, listing_of
from training.data.listing import Listing, PackOptions, Sample

ROWS, FRAMES = 3000, 600
WIDTH, HEIGHT = 1280, 720
FAR = "too far away to count"


@dataclass(frozen=True)
class SyntheticSource:
    """The parts of a `synthetic://` source."""

    rows: int
    frames: int
    """The number of frames of a detection set; 0 asks for zones as rows."""
    seed: int
    scenario: str

    def __post_init__(self) -> None:
        fits = 60 <= self.rows <= 1_000_000 and (self.frames == 0 or 60 <= self.frames <= 1_000_000)
        if not fits or not 0 <= self.seed < 1 << 16 or self.scenario not in SCENARIOS:
            raise InputError(
                "give 60 to 1000000 rows or frames, a seed of 0 to 65535, and a scenario of " + ", ".join(SCENARIOS)
            )

    @property
    def uri(self) -> str:
        """The source with every part spelled out."""
        wanted = f"frames={self.frames}" if self.frames else f"rows={self.rows}"
        return f"synthetic://?{wanted}&seed={self.seed}&scenario={self.scenario}"


def matches(source: str) -> bool:
    """Say whether the source asks for the synthetic set."""
    return source == "synthetic" or source.startswith("synthetic:")


def read(source: str, options: PackOptions) -> Listing:
    """Return balanced zone crops of the synthetic scene, or the boxes of its frames, with their own groups."""
    if not matches(source):
        raise InputError(f"{source} is not the synthetic set: give `synthetic`, or synthetic://?rows=3000&seed=1")
    given = {"--classes": options.classes, "--group": options.group, "--group-csv": options.group_csv}
    if refused := [flag for flag, value in given.items() if value is not None]:
        raise InputError(f"{source} has classes and groups of its own: drop {' and '.join(refused)}")
    wanted = _parse(source)
    if options.as_zones is not None and not wanted.frames:
        wanted = replace(wanted, frames=FRAMES)
    if wanted.frames:
        detection_set = _annotated(wanted, plan_frames(wanted.frames, wanted.seed))
        return replace(
            listing_of(detection_set, options), root=wanted.uri, synthetic=True, load=draw_frame, warnings=[]
        )
    rects = zone_rects(WIDTH, HEIGHT)
    plan = plan_crops(wanted.rows, wanted.seed)
    # a dict in place of a set: each frame once, in the order of the plan
    detection_set = _annotated(wanted, dict.fromkeys((crop.scene_seed, crop.index) for crop in plan))
    samples = []
    for crop in plan:
        name = scene_frame_name(wanted.scenario, crop.scene_seed, crop.index)
        samples.append(Sample(name, crop.label, crop.group, None, rects[crop.zone]))
    return Listing(
        importer="synthetic",
        root=wanted.uri,
        samples=samples,
        classes=CLASSES,
        background=BACKGROUND,
        synthetic=True,
        load=draw_frame,
        frames=label_frames(detection_set, read_class_map(None), PackOptions(), SkipCounts()),
        zones=ZONES,
    )


def _annotated(wanted: SyntheticSource, frames: Iterable[tuple[int, int]]) -> DetectionSet:
    """Return frames of scenes, (scene seed, index), as a detection set; objects far away are to be skipped."""
    pictures = []
    for scene_seed, index in frames:
        # those far away are skipped, not left out: their place is no background
        objects = Scene(scene_seed, WIDTH, HEIGHT, wanted.scenario).objects(index)
        boxes = tuple(AnnotatedBox(label, rect, skip=None if near else FAR) for label, rect, near in objects)
        pictures.append(
            AnnotatedPicture(scene_frame_name(wanted.scenario, scene_seed, index), WIDTH, HEIGHT, None, boxes)
        )
    return DetectionSet("synthetic", Path("synthetic"), pictures, CLASSES, group_of=_group_of)


def _group_of(source: str) -> str:
    return group_name(int(source.split("/")[1]))


def _parse(source: str) -> SyntheticSource:
    query = parse_qs(urlsplit(source).query, keep_blank_values=True)
    if unknown := sorted(set(query) - {"rows", "frames", "seed", "scenario"}):
        raise InputError(f"{source} has the unknown part {unknown[0]!r}: give rows, frames, seed or scenario")
    try:
        numbers = {"rows": ROWS, "frames": 0, "seed": 1}
        given = {key: query.get(key, [str(default)])[0] for key, default in numbers.items()}
        rows, frames, seed = map(int, given.values())
    except ValueError:
        raise InputError(f"{source}: rows, frames and seed must be whole numbers") from None
    if "frames" in query and frames == 0:  # within the program it stands for zones as rows
        raise InputError(f"{source} asks for no frame: give frames=60 or more, or rows in place of frames")
    try:
        return SyntheticSource(rows, frames, seed, query.get("scenario", ["mixed"])[0])
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
