"""The camera of the synthetic scene: light, weather, lens and sensor around the drawn road."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from core.errors import InputError
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import rect_of
from core.synthetic.drawing import View, draw_background, draw_dashes
from core.synthetic.figures import box_of, draw_actor
from core.synthetic.traffic import (
    BACKGROUND,
    CONDITIONS,
    DROPS,
    FRAME_NOISE,
    ZONES,
    actors_at,
    ground_truth_at,
    seeded,
)

SCENARIOS = ("mixed", "day", "dusk", "night", "rain")
SEGMENT_S = 12.0
"""Light, weather and lens stay the same for this long."""
NOISE_MARGIN_PX = 64


@dataclass(frozen=True)
class SceneConditions:
    """Light, weather and lens of one segment."""

    condition: str
    variant: int
    gain: float
    blur_px: float
    noise: float
    dirt: int


def zone_rects(width: int, height: int) -> dict[str, Rect]:
    """Return the zones in pixels of a frame."""
    return {name: rect_of(zone, width, height) for name, zone in ZONES.items()}


def scene_frame_name(scenario: str, seed: int, index: int) -> str:
    """Return the name by which `draw_frame` draws a frame again."""
    return f"{scenario}/{seed}/{index}"


def draw_frame(name: str) -> Bytes:
    """Draw the frame of a name, uint8 (720, 1280, 3) BGR."""
    scenario, seed, index = name.split("/")
    return _named_scene(scenario, int(seed)).render(int(index))[0]


@lru_cache(maxsize=1)
def _named_scene(scenario: str, seed: int) -> Scene:
    return Scene(seed, scenario=scenario)


@lru_cache(maxsize=2)
def _noise_bank(width: int, height: int) -> Bytes:
    bank = np.random.default_rng(15).normal(128, 14, (height + NOISE_MARGIN_PX, width + NOISE_MARGIN_PX, 3))
    return np.asarray(bank.clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=8)
def _background(width: int, height: int, condition: str, variant: int) -> Bytes:
    return draw_background(View.of(width, height, condition, 1.0), variant)


@lru_cache(maxsize=4)
def _lens_dirt(width: int, height: int, seed: int, kind: int) -> Bytes:
    """Return how much darker drops on the lens make each pixel, uint8 (H, W, 3)."""
    random = seeded(seed, DROPS, kind)
    mask = np.zeros((height, width, 3), np.uint8)
    for _ in range(int(random.integers(4, 14))):
        x = int(random.uniform(0, width))
        y = int(random.uniform(0.1, 0.8) * height)
        radius = max(2, int(random.uniform(0.008, 0.05) * width))
        depth = int(random.uniform(40, 150))
        cv2.circle(mask, (x, y), radius, (depth, depth, depth), -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), width / 110), np.uint8)


class Scene:
    """A synthetic rear camera. Frames are a pure function of the arguments and the index, in any order of calls."""

    def __init__(
        self, seed: int = 0, width: int = 1280, height: int = 720, scenario: str = "mixed", fps: float = 30.0
    ) -> None:
        if scenario not in SCENARIOS:
            raise InputError(f"there is no scenario {scenario!r}: choose from {', '.join(SCENARIOS)}")
        if not (64 <= width <= 7680 and 64 <= height <= 4320):
            raise InputError(f"the scene's size is {width}x{height}: give a width of 64-7680 and a height of 64-4320")
        if not 0.1 <= fps <= 1000:
            raise InputError(f"the scene's fps is {fps}: give 0.1 to 1000")
        self.seed = seed
        self.width = width
        self.height = height
        self.scenario = scenario
        self.fps = fps

    def ground_truth(self, index: int) -> dict[str, str]:
        """Return the class of every zone in a frame, without drawing it."""
        return ground_truth_at(self.seed, index / self.fps)

    def objects(self, index: int) -> list[tuple[str, Rect, bool]]:
        """Return (class, rectangle clipped to the frame, whether it is near enough to count) of each object in it."""
        time_s = index / self.fps
        view = View.of(self.width, self.height, "day", 1.0)  # boxes depend on the projection alone, not on the light
        found = []
        for actor in actors_at(self.seed, time_s):
            if actor.label == BACKGROUND:
                continue
            x0, y0, x1, y1 = box_of(view, actor, actor.distance_m(time_s))
            box = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
            if box[0] < box[2] and box[1] < box[3]:  # a part of it is inside the frame
                found.append((actor.label, box, actor.present(time_s)))
        return found

    def render(self, index: int) -> tuple[Bytes, dict[str, str]]:
        """Return a frame, uint8 (H, W, 3) BGR owned by the caller, and the class of every zone in it."""
        time_s = index / self.fps
        conditions = self.conditions_at(time_s)
        view = View.of(self.width, self.height, conditions.condition, conditions.gain)
        background = _background(self.width, self.height, conditions.condition, conditions.variant)
        if abs(conditions.gain - 1) >= 0.01:
            frame = np.asarray(cv2.convertScaleAbs(background, alpha=conditions.gain), np.uint8)
        else:
            frame = background.copy()  # the background is cached and must not be drawn on
        draw_dashes(frame, view, time_s)
        for actor in actors_at(self.seed, time_s):
            draw_actor(frame, view, actor, actor.distance_m(time_s))
        # by frame: rain and noise do not depend on which frames came before
        random = seeded(self.seed, FRAME_NOISE, index)
        if conditions.condition == "rain":
            self._rain(frame, random)
        if conditions.dirt:
            dirt = _lens_dirt(self.width, self.height, self.seed, conditions.dirt)
            cv2.subtract(frame, dirt, dst=frame)
        if conditions.blur_px > 0.3:
            cv2.GaussianBlur(frame, (0, 0), conditions.blur_px * self.width / 1280, dst=frame)
        return self._with_noise(frame, conditions.noise, random), ground_truth_at(self.seed, time_s)

    def conditions_at(self, time_s: float) -> SceneConditions:
        """Return light, weather and lens at a time."""
        random = seeded(self.seed, CONDITIONS, int(time_s // SEGMENT_S))
        drawn = SCENARIOS[1 + int(random.choice(4, p=(0.4, 0.2, 0.22, 0.18)))]
        condition = drawn if self.scenario == "mixed" else self.scenario
        dark = {"day": 1.0, "dusk": 1.3, "night": 1.8, "rain": 1.3}[condition]
        return SceneConditions(
            condition=condition,
            variant=int(random.integers(6)),
            gain=float(random.uniform(0.75, 1.2)),
            blur_px=float(max(0.0, random.normal(0.6, 1.2))),
            noise=float(random.uniform(0.2, 0.8) * dark),
            dirt=int(random.integers(1, 5)) if random.random() < 0.3 else 0,
        )

    def _rain(self, frame: Bytes, random: np.random.Generator) -> None:
        """Draw streaks of rain, slanted a little and mostly to the right."""
        count = 140
        unit = self.width / 1280  # lengths below are pixels of a frame 1280 wide
        starts = random.uniform((0, 0), (self.width, self.height), (count, 2))
        across = random.uniform(-2, 6, count)
        down = random.uniform(12, 34, count)
        ends = starts + np.stack([across, down], 1) * unit
        lines = np.stack([starts, ends], 1).round().astype(np.int32)
        cv2.polylines(frame, list(lines), False, (178, 172, 168), max(1, round(unit)))

    def _with_noise(self, frame: Bytes, level: float, random: np.random.Generator) -> Bytes:
        """Return the frame with sensor noise."""
        # one bank of noise at a random offset, because 2.8 million fresh normals take 20 ms a frame
        bank = _noise_bank(self.width, self.height)
        x, y = random.integers(0, NOISE_MARGIN_PX, 2).tolist()
        noise = bank[y : y + self.height, x : x + self.width]
        # the bank is uint8 around 128, which the last term takes away again
        return np.asarray(cv2.addWeighted(frame, 1.0, noise, level, -128.0 * level), np.uint8)
