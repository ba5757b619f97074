"""A balanced data set of zone crops, drawn from many scenes. A scene is a group: it never spans two splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import Geometry, fill
from core.synthetic.scene import Scene, zone_rects
from core.synthetic.traffic import CLASSES, seeded

CROPS_PER_SCENE = 12
MIN_SCENES = 60
"""However small the set, its splits need this many groups to draw from."""
FRAMES_PER_SCENE = 30 * 60


@dataclass(frozen=True, order=True)
class Crop:
    """One zone of one frame of one scene, and its class."""

    scene_seed: int
    index: int
    zone: str
    label: str

    @property
    def group(self) -> str:
        """The scene's name: crops of one scene resemble each other."""
        return group_name(self.scene_seed)


def group_name(scene_seed: int) -> str:
    """Return the group of everything that one scene shows."""
    return f"scene{scene_seed}"


def plan_frames(n: int, seed: int = 0) -> list[tuple[int, int]]:
    """Choose `n` frames, (scene seed, index), spread over scenes as `plan_crops` spreads its crops."""
    random = seeded(seed, 18)
    per_scene = max(1, min(CROPS_PER_SCENE, n // MIN_SCENES))
    scenes = ((seed & 0xFFFF) * 100_003 + scene for scene in range(-(-n // per_scene)))
    plan = [(scene, int(index)) for scene in scenes for index in random.permutation(FRAMES_PER_SCENE)[:per_scene]]
    return plan[:n]


def plan_crops(n: int, seed: int = 0) -> list[Crop]:
    """Choose `n` crops, equally many of each class (give or take one), without drawing a frame. Sorted by frame."""
    random = seeded(seed, 16)
    wanted = {label: n // len(CLASSES) + (i < n % len(CLASSES)) for i, label in enumerate(CLASSES)}
    per_scene = max(1, min(CROPS_PER_SCENE, n // MIN_SCENES))
    plan: list[Crop] = []
    scene = 0
    while len(plan) < n:
        scene_seed = (seed & 0xFFFF) * 100_003 + scene
        scene += 1
        here = 0
        for index in random.permutation(FRAMES_PER_SCENE)[: 4 * per_scene]:
            for zone, label in Scene(scene_seed, 64, 64).ground_truth(int(index)).items():
                if wanted[label] and here < per_scene:
                    wanted[label] -= 1
                    here += 1
                    plan.append(Crop(scene_seed, int(index), zone, label))
    return sorted(plan)


def draw_zone_crops(
    plan: list[Crop], geometry: Geometry, *, width: int = 1280, height: int = 720
) -> Iterator[tuple[Crop, Rect, Bytes]]:
    """Yield each crop of a plan with its rectangle and its pixels, uint8 (S, S, 3) RGB, through `fill`."""
    rects = zone_rects(width, height)
    for scene_seed, of_scene in groupby(plan, lambda crop: crop.scene_seed):
        scene = Scene(scene_seed, width, height)
        for index, of_frame in groupby(of_scene, lambda crop: crop.index):
            frame, _ = scene.render(index)
            crops = list(of_frame)
            out_nhwc = geometry.empty(len(crops))
            fill(out_nhwc, frame, [rects[crop.zone] for crop in crops], geometry)
            for crop, pixels in zip(crops, out_nhwc, strict=True):
                yield crop, rects[crop.zone], pixels
