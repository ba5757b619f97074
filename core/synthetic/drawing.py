"""Draw in the perspective of a rear camera: background, lane marks, and the brush that draws a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from core.geometry.frame import Bytes
from core.synthetic.traffic import BACKGROUNDS, CAMERA_M, FOCAL, HORIZON, Actor, seeded

Color = tuple[float, float, float]
"""Blue, green, red, 0-255."""
SHIFT = 4
"""Polygons are drawn in sixteenths of a pixel, so that slow growth does not jump."""


class _Light(NamedTuple):
    """The colors and the light of a condition."""

    zenith: Color
    horizon: Color
    land: Color
    road: Color
    on_bodies: float
    haze_per_m: float


_LIGHT = {
    "day": _Light((205, 150, 95), (225, 215, 200), (70, 120, 95), (112, 110, 108), 1.0, 0.010),
    "dusk": _Light((95, 60, 50), (90, 130, 205), (38, 48, 50), (62, 58, 60), 0.62, 0.014),
    "night": _Light((22, 14, 12), (38, 30, 30), (14, 18, 16), (40, 38, 38), 0.36, 0.012),
    "rain": _Light((150, 145, 140), (170, 168, 165), (72, 92, 82), (86, 86, 88), 0.68, 0.026),
}


@dataclass(frozen=True)
class View:
    """The projection and the light of one frame."""

    width: int
    height: int
    condition: str
    gain: float
    light: float
    haze: float
    haze_color: Color

    @classmethod
    def of(cls, width: int, height: int, condition: str, gain: float) -> View:
        """Return the view of a condition."""
        light = _LIGHT[condition]
        haze_color = scaled(light.horizon, gain)
        return cls(width, height, condition, gain, light.on_bodies * gain, light.haze_per_m, haze_color)

    def point(self, x_m: float, up_m: float, away_m: float) -> tuple[float, float]:
        """Project a point: meters right of the axis, above the road, away from the camera -> pixels."""
        scale = self.px_per_m(away_m)
        return self.width / 2 + x_m * scale, HORIZON * self.height + (CAMERA_M - up_m) * scale

    def px_per_m(self, away_m: float) -> float:
        """Return how many pixels a meter across measures at a distance."""
        return FOCAL * self.width / away_m

    def lit_color(self, color: Color, away_m: float, shade: float = 1.0) -> Color:
        """Return a body's color under this light, behind `away_m` of haze."""
        # Beer-Lambert: what the haze swallows of the body's light, it adds of its own color
        clear = float(np.exp(-self.haze * away_m))
        brightness = self.light * shade * clear
        mixed = [c * brightness + h * (1 - clear) for c, h in zip(color, self.haze_color, strict=True)]
        return tuple(min(255.0, c) for c in mixed)  # type: ignore[return-value]


def scaled(color: Color, by: float) -> Color:
    """Return a color times a factor, clipped."""
    return tuple(min(255.0, c * by) for c in color)  # type: ignore[return-value]


def polygon(frame: Bytes, points: list[tuple[float, float]], color: Color) -> None:
    """Fill a convex polygon given in float pixels."""
    fixed = np.rint(np.array(points) * (1 << SHIFT)).astype(np.int32)
    cv2.fillConvexPoly(frame, fixed, color, cv2.LINE_8, SHIFT)


def draw_background(view: View, variant: int) -> Bytes:
    """Return sky, land, skyline and road: uint8 (H, W, 3)."""
    light = _LIGHT[view.condition]
    random = seeded(BACKGROUNDS, variant)
    # the order of the draws below is part of the data set: another order would draw other frames from the same seed
    frame = np.empty((view.height, view.width, 3), np.uint8)
    horizon_y = round(HORIZON * view.height)
    blend = np.linspace(0, 1, horizon_y)[:, None, None]
    sky = np.array(light.zenith) * (1 - blend) + np.array(light.horizon) * blend
    frame[:horizon_y] = sky.astype(np.uint8)
    frame[horizon_y:] = np.array(light.land, np.uint8)
    _draw_skyline(frame, view, random, scaled(light.land, 0.8))
    edge_m = float(random.uniform(6.6, 9.0))
    near, far = 1.0, 400.0
    road_color = scaled(light.road, float(random.uniform(0.8, 1.2)))
    _draw_band(frame, view, 0.0, edge_m, near, far, road_color)
    line_color = scaled((215, 220, 220), view.light)
    for side in (-1, 1):
        _draw_band(frame, view, side * (edge_m - 0.5), 0.14, near, far, line_color)
    if variant % 3 == 0:
        _draw_guard_rail(frame, view, edge_m + 0.4)
    # the grain of asphalt and land: noise of half the resolution, in gray
    texture = random.normal(0, 5, (view.height // 2, view.width // 2, 1)).astype(np.float32)
    rough = cv2.resize(texture, (view.width, view.height), interpolation=cv2.INTER_LINEAR)[..., None]
    textured = frame.astype(np.float32) + rough
    return np.asarray(np.clip(textured, 0, 255), np.uint8)


def _draw_skyline(frame: Bytes, view: View, random: np.random.Generator, color: Color) -> None:
    """Draw houses (rectangles) and trees (half ellipses) that stand on the horizon."""
    base = HORIZON * view.height
    for _ in range(int(random.integers(6, 16))):
        x = random.uniform(0, view.width)
        width = random.uniform(0.02, 0.1) * view.width
        height = random.uniform(0.02, 0.2) * view.height
        shade = scaled(color, float(random.uniform(0.6, 1.5)))
        if random.random() < 0.5:
            top = base - height
            polygon(frame, [(x, top), (x + width, top), (x + width, base), (x, base)], shade)
        else:
            axes = (max(1, round(width / 2)), max(1, round(height)))
            cv2.ellipse(frame, (round(x), round(base)), axes, 0, 180, 360, shade, -1)


def _draw_band(frame: Bytes, view: View, x_m: float, width_m: float, near_m: float, far_m: float, color: Color) -> None:
    """Fill a band that lies on the road and runs away from the camera. width_m: to either side of its middle."""
    left, right = x_m - width_m, x_m + width_m
    corners = [(left, far_m), (right, far_m), (right, near_m), (left, near_m)]
    polygon(frame, [view.point(x, 0, away_m) for x, away_m in corners], color)


def _draw_guard_rail(frame: Bytes, view: View, x_m: float) -> None:
    for side in (-1, 1):
        rail = [(0.5, 2.0), (0.85, 2.0), (0.85, 120.0), (0.5, 120.0)]
        points = [view.point(side * x_m, up, away_m) for up, away_m in rail]
        polygon(frame, points, view.lit_color((150, 150, 150), 5))


def draw_dashes(frame: Bytes, view: View, time_s: float) -> None:
    """Draw the moving lane marks: 3 m long, every 9 m, at 14 m/s."""
    # the marks go away from the camera, which looks back: the distance grows with time, and repeats every 9 m
    offset = (time_s * 14) % 9
    for number in range(6):
        away = 1.6 + number * 9 + offset
        color = view.lit_color((225, 228, 228), away)
        for x_m in (-2.2, 2.2):
            _draw_band(frame, view, x_m, 0.07, away, away + 3, color)


class Body:
    """The front of an actor, drawn in its own units: x -0.5..0.5 across, up 0..1 of its height."""

    def __init__(self, frame: Bytes, view: View, actor: Actor, away_m: float) -> None:
        self.frame = frame
        self.view = view
        self.actor = actor
        self.away_m = away_m
        self.paint: Color = actor.color_bgr

    def at(self, x: float, up: float, back_m: float = 0.0) -> tuple[float, float]:
        """Return the pixel of a point of the front, or of one `back_m` behind it."""
        actor = self.actor
        return self.view.point(actor.lateral_m + x * actor.width_m, up * actor.height_m, self.away_m + back_m)

    def shape(self, points: Sequence[tuple[float, ...]], color: Color, shade: float = 1.0) -> None:
        """Fill a convex polygon with a lit color. points: (x, up) of the front, or (x, up, meters behind it)."""
        polygon(self.frame, [self.at(*point) for point in points], self.view.lit_color(color, self.away_m, shade))

    def trapezoid(self, half0: float, up0: float, half1: float, up1: float, color: Color, shade: float = 1.0) -> None:
        """Fill what is symmetric about the middle: `half0` wide to either side at `up0`, `half1` at `up1`."""
        self.shape([(-half0, up0), (half0, up0), (half1, up1), (-half1, up1)], color, shade)

    def panel(self, x0: float, x1: float, up0: float, up1: float, color: Color, shade: float = 1.0) -> None:
        """Fill a rectangle of the front."""
        self.shape([(x0, up0), (x1, up0), (x1, up1), (x0, up1)], color, shade)

    def disc(self, x: float, up: float, radius_m: float, color: Color, stretch: float = 1) -> None:
        """Fill a circle of the front, or an ellipse `stretch` times as high, with a lit color."""
        self._ellipse(x, up, radius_m, self.view.lit_color(color, self.away_m), stretch)

    def _ellipse(self, x: float, up: float, radius_m: float, color: Color, stretch: float = 1) -> None:
        center_x, center_y = self.at(x, up)
        radius = max(0.6, radius_m * self.view.px_per_m(self.away_m))
        # at least one pixel, so that a head or a lamp far away does not vanish
        axes = (max(1, round(radius)), max(1, round(radius * stretch)))
        center = (round(center_x), round(center_y))
        cv2.ellipse(self.frame, center, axes, 0, 0, 360, color, -1)

    def shadow(self) -> None:
        """Darken the road under the actor."""
        self.shape([(-0.6, 0.0, -0.25), (0.6, 0.0, -0.25), (0.58, 0.0, 1.2), (-0.58, 0.0, 1.2)], (38, 38, 38))

    def lamp(self, x: float, up: float, radius_m: float) -> None:
        """Draw a head lamp: a pale disc, or a glow when lamps are on."""
        if self.view.condition == "day":
            self.disc(x, up, radius_m, (215, 220, 220))
            return
        self._ellipse(x, up, radius_m, (225, 245, 250))
        if self.view.condition != "rain":
            center_x, center_y = self.at(x, up)
            radius = max(2, round(radius_m * self.view.px_per_m(self.away_m)))
            add_glow(self.frame, round(center_x), round(center_y), min(radius * 4, self.view.width // 12))


# a Gaussian disc, made once and scaled to each lamp
_GLOW_RADIUS = np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]).astype(np.float32)
_GLOW: NDArray[np.float32] = np.exp(-(_GLOW_RADIUS**2) * 5)


def add_glow(frame: Bytes, x: int, y: int, radius: int) -> None:
    """Add a soft light around a pixel, clipped to the frame."""
    height, width = frame.shape[:2]
    side = 2 * radius
    left, top = x - radius, y - radius
    # the part of the glow that falls into the frame
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + side, width), min(top + side, height)
    if x1 <= x0 or y1 <= y0:
        return
    whole = cv2.resize(_GLOW, (side, side))
    glow = whole[y0 - top : y1 - top, x0 - left : x1 - left]
    light = (glow[..., None] * np.array((130, 160, 170), np.float32)).astype(np.uint8)
    # cv2.add stops at 255, where numpy's + would wrap around
    dark = np.ascontiguousarray(frame[y0:y1, x0:x1])
    frame[y0:y1, x0:x1] = cv2.add(dark, light)
