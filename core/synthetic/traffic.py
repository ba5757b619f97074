"""The traffic of the synthetic scene: a schedule computed from (seed, time), and its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CLASSES = ("car", "truck", "bus", "two_wheeler", "person", "clear")
BACKGROUND = "clear"
ZONES: dict[str, tuple[float, float, float, float]] = {
    "left": (0.0, 0.18, 0.40, 0.76),
    "ego": (0.39, 0.18, 0.61, 0.76),
    "right": (0.60, 0.18, 1.0, 0.76),
}
"""x0, y0, x1, y1 as parts of the frame's width and height."""

LANES_M = {"left": -3.8, "ego": 0.0, "right": 3.8}
"""Distance of a lane's middle from the camera's axis, in meters."""
HORIZON = 0.42
"""Height of the horizon, as a part of the frame's height."""
FOCAL = 0.5
"""Focal length, as a part of the frame's width: 90 degrees across."""
CAMERA_M = 1.5
"""Height of the camera over the road."""
SLOT_S = 4.0
"""A lane holds one actor, or none, for this long."""
FAR_M = 9.5
"""Farther than this an actor is scenery: the zone counts as clear."""

# width, height, length in meters, each with its spread: the spreads overlap where people confuse the classes
_BODIES = {
    "car": ((1.62, 1.98), (1.38, 2.15), (3.6, 5.0)),
    "truck": ((1.85, 2.55), (2.0, 3.7), (5.0, 11.0)),
    "bus": ((2.0, 2.55), (2.35, 3.5), (6.5, 12.0)),
    "two_wheeler": ((0.7, 1.0), (1.4, 1.85), (1.7, 2.2)),
    "person": ((0.42, 0.68), (1.25, 1.95), (0.3, 0.4)),
    "clear": ((0.4, 1.6), (0.5, 2.2), (0.1, 0.3)),
}


@dataclass(frozen=True)
class Actor:
    """One object on the road for one slot. `clear` actors are distractors: bins, signs, boxes, shadows."""

    label: str
    zone: str
    start_s: float
    lateral_m: float
    width_m: float
    height_m: float
    length_m: float
    farthest_m: float
    """The distance at the start and the end of the slot."""
    nearest_m: float
    """The distance in the middle of the slot."""
    color_bgr: tuple[float, float, float]
    style: int
    """16 random bits, from which each detail of its drawing takes a few."""
    occluded: float
    """Part of the height hidden from below by something in front of it; 0 for most."""

    def distance_m(self, time_s: float) -> float:
        """Return the distance to the camera: log-linear in time, so that each octave of size is seen equally long."""
        elapsed = min(max((time_s - self.start_s) / SLOT_S, 0.0), 1.0)
        near = 1 - abs(2 * elapsed - 1)  # it comes near and falls back, so that nothing pops up or vanishes close by
        return float(self.farthest_m * (self.nearest_m / self.farthest_m) ** near)

    def present(self, time_s: float) -> bool:
        """Return whether the actor counts: it is near enough, and no distractor."""
        return self.label != BACKGROUND and self.distance_m(time_s) <= FAR_M


ACTORS, CONDITIONS, FRAME_NOISE, DROPS, CROPS, BACKGROUNDS, FRAMES = 11, 12, 13, 14, 16, 17, 18
"""The uses of random numbers. Each is a part of the key of `seeded`, so that no two uses draw the same numbers."""


def seeded(*key: int) -> np.random.Generator:
    """Return a generator that depends on the lower 32 bits of these numbers alone."""
    # a list seeds by all of its numbers, and numpy takes none below 0
    return np.random.default_rng([part & 0xFFFFFFFF for part in key])


@lru_cache(maxsize=4096)
def actor_of(seed: int, zone: str, slot: int) -> Actor | None:
    """Return the actor in the zone's lane in a slot; None for an empty lane. Equal arguments give equal actors."""
    # the order of the draws below decides what every seed shows: a new one goes to the end
    lane = list(ZONES).index(zone)
    random = seeded(seed, ACTORS, lane, slot)
    kind = random.random()
    if kind > 0.82:
        return None
    label = BACKGROUND if kind > 0.68 else CLASSES[int(random.integers(5))]
    width_m, height_m, length_m = (float(random.uniform(*limits)) for limits in _BODIES[label])
    slow = label in ("person", BACKGROUND)
    side = LANES_M[zone] * (0.85 if slow else 1.0)
    gray = random.uniform(25, 225)
    tint = random.normal(0, 38, 3)
    return Actor(
        label=label,
        zone=zone,
        start_s=slot * SLOT_S + lane * SLOT_S / 3,
        lateral_m=float(side + random.uniform(-0.45, 0.45)),
        width_m=width_m,
        height_m=height_m,
        length_m=length_m,
        farthest_m=float(random.uniform(13, 18) if slow else random.uniform(14, 22)),
        nearest_m=float(random.uniform(3.8, 6.0)),
        color_bgr=tuple(float(c) for c in np.clip(gray + tint, 12, 245)),  # type: ignore[arg-type]
        style=int(random.integers(1 << 16)),
        occluded=float(random.uniform(0.2, 0.6) if random.random() < 0.18 else 0.0),
    )


def actors_at(seed: int, time_s: float) -> list[Actor]:
    """Return the actors on the road at a time, farthest first."""
    found = []
    for lane, zone in enumerate(ZONES):
        # the slots of the lanes are shifted by a third, so that their actors do not change all at once
        actor = actor_of(seed, zone, int((time_s - lane * SLOT_S / 3) // SLOT_S))
        if actor is not None:
            found.append(actor)
    return sorted(found, key=lambda actor: -actor.distance_m(time_s))


def ground_truth_at(seed: int, time_s: float) -> dict[str, str]:
    """Return the class of every zone at a time."""
    truth = dict.fromkeys(ZONES, BACKGROUND)
    for actor in actors_at(seed, time_s):
        if actor.present(time_s):
            truth[actor.zone] = actor.label
    return truth
