"""A balanced data set of zone crops, drawn from many scenes. A scene is a group: it never spans two splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import Geometry, fill
from core.synthetic.scene import Scene, zone_rects
from core.synthetic.traffic import CLASSES, CROPS, FRAMES, seeded

CROPS_PER_SCENE = 12
MIN_SCENES = 60
"""The smallest number of groups that the splits are drawn from, even for a small set."""
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
    random = seeded(seed, FRAMES)
    per_scene = max(1, min(CROPS_PER_SCENE, n // MIN_SCENES))
    plan: list[tuple[int, int]] = []
    for scene in range(-(-n // per_scene)):  # rounded up
        indices = random.permutation(FRAMES_PER_SCENE)[:per_scene]
        plan += [(_scene_seed(seed, scene), int(index)) for index in indices]
    return plan[:n]


def _scene_seed(seed: int, scene: int) -> int:
    """Return the seed of a scene: the factor, a prime, keeps the scenes of two data sets apart up to 100,003 scenes."""
    return (seed & 0xFFFF) * 100_003 + scene


def plan_crops(n: int, seed: int = 0) -> list[Crop]:
    """Choose `n` crops, equally many of each class (give or take one), without drawing a frame. Sorted by frame."""
    random = seeded(seed, CROPS)
    each, rest = divmod(n, len(CLASSES))
    # the first classes take what the division leaves over
    wanted = {label: each + (i < rest) for i, label in enumerate(CLASSES)}
    per_scene = max(1, min(CROPS_PER_SCENE, n // MIN_SCENES))
    plan: list[Crop] = []
    scene = 0
    while len(plan) < n:
        scene_seed = _scene_seed(seed, scene)
        scene += 1
        taken = 0
        # more frames than crops, because a frame may show no class that is still wanted
        for index in random.permutation(FRAMES_PER_SCENE)[: 4 * per_scene]:
            # the smallest frame: its ground truth is that of every size
            for zone, label in Scene(scene_seed, 64, 64).ground_truth(int(index)).items():
                if wanted[label] and taken < per_scene:
                    wanted[label] -= 1
                    taken += 1
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
