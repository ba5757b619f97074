"""The synthetic rear view: a seeded road scene with ground truth, for every path that has no camera.

`Scene` is a camera that can be asked for any frame; `plan_crops` draws a balanced data set of zones from it.
Whatever is made from it must say "synthetic".
"""

from __future__ import annotations

from inference.scene.camera import SCENARIOS, Scene, zone_rects
from inference.scene.crops import Crop, draw_zone_crops, plan_crops
from inference.scene.traffic import BACKGROUND, CLASSES, ZONES

__all__ = [
    "BACKGROUND",
    "CLASSES",
    "SCENARIOS",
    "ZONES",
    "Crop",
    "Scene",
    "draw_zone_crops",
    "plan_crops",
    "zone_rects",
]
