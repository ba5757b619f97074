"""The synthetic rear view: a seeded road scene with ground truth, for every path that has no camera.

`Scene` is a camera that can be asked for any frame; `plan_crops` draws a balanced data set of zones from it.
Whatever is made from it must say "synthetic".
"""

from __future__ import annotations

from core.synthetic.crops import Crop, draw_zone_crops, group_name, plan_crops, plan_frames
from core.synthetic.scene import SCENARIOS, Scene, draw_frame, scene_frame_name, zone_rects
from core.synthetic.traffic import BACKGROUND, CLASSES, ZONES

__all__ = [
    "BACKGROUND",
    "CLASSES",
    "SCENARIOS",
    "ZONES",
    "Crop",
    "Scene",
    "draw_frame",
    "draw_zone_crops",
    "group_name",
    "plan_crops",
    "plan_frames",
    "scene_frame_name",
    "zone_rects",
]
