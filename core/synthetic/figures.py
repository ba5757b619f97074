"""The figures on the synthetic road: vehicles, riders, people, and distractors."""

from __future__ import annotations

from core.geometry.frame import Bytes, Rect
from core.synthetic.drawing import Body, Color, View, scaled
from core.synthetic.traffic import BACKGROUND, Actor


def draw_actor(frame: Bytes, view: View, actor: Actor, away_m: float) -> None:
    """Draw one actor at a distance, with its shadow, its lamps, and whatever hides a part of it."""
    body = Body(frame, view, actor, away_m)
    if actor.label == BACKGROUND:
        draw_distractor(body)
        return
    body.shadow()
    if actor.label == "person":
        draw_person(body)
    elif actor.label == "two_wheeler":
        draw_two_wheeler(body)
    else:
        draw_vehicle(body)
    if actor.occluded:
        hidden = actor.occluded
        # a bush or a wall in the colors of the land, shifted to the left, to the right or not at all
        lean = 0.35 * ((actor.style >> 9) % 3 - 1)
        body.panel(-0.75 + lean, 0.75 + lean, 0, hidden, scaled((60, 75, 70), 0.6 + (actor.style % 7) / 7))


def box_of(view: View, actor: Actor, away_m: float) -> Rect:
    """Return the rectangle of an actor's front and of the side that shows: whole pixels, not clipped to the frame."""
    # the front, and the far end of the side face: its nearer end is an edge of the front
    corners = [(x, up, 0.0) for x in (-0.5, 0.5) for up in (0.0, 1.0)]
    if actor.label in ("car", "truck", "bus") and _shows_side(actor):
        corners += [(_inner_edge(actor), up, actor.length_m) for up in (0.08, 1.0)]
    points = []
    for x, up, back_m in corners:
        points.append(view.point(actor.lateral_m + x * actor.width_m, up * actor.height_m, away_m + back_m))
    across, down = zip(*points, strict=True)
    return round(min(across)), round(min(down)), round(max(across)), round(max(down))


def _shows_side(actor: Actor) -> bool:
    """Return whether the camera sees the side: it does not, while it stands in front of the actor."""
    return abs(actor.lateral_m) >= actor.width_m / 2 + 0.2


def _inner_edge(actor: Actor) -> float:
    """Return the edge of the front that faces the camera's axis, in the body's units."""
    return -0.5 if actor.lateral_m > 0 else 0.5


def draw_vehicle(body: Body) -> None:
    """Draw a car, truck or bus: a side face where one sees it, and a front of few parts that the classes share."""
    # heights and widths are parts of the actor's; `style` is 16 random bits, from which each detail takes a few
    actor = body.actor
    style = body.actor.style
    glass = (88.0, 72.0, 60.0)
    _draw_side(body)
    if actor.label == "car":
        waist = 0.52 + (style % 5) * 0.03
        lean = 0.06 + (style >> 3) % 4 * 0.03
        body.panel(-0.5, 0.5, 0.1, waist, body.paint)
        body.trapezoid(0.48, waist, 0.48 - lean, 1.0, body.paint, 1.08)
        body.trapezoid(0.42, waist, 0.40 - lean, 0.95, glass)
        lamp_up, grille = waist - 0.13, (0.18, 0.32)
    elif actor.label == "truck":
        box = (style >> 2) % 3 > 0  # a box behind the cab, or a bare cab that looks like a tall car
        cab_top = 0.72 + (style % 4) * 0.05 if box else 1.0
        if box:
            body.panel(-0.5, 0.5, 0.3, 1.0, scaled((200, 205, 205), 0.5 + (style % 9) / 12))
        body.panel(-0.47, 0.47, 0.08, cab_top, body.paint)
        body.panel(-0.42, 0.42, cab_top * 0.55, cab_top * 0.9, glass)
        lamp_up, grille = 0.2, (0.22, 0.38)
    else:
        body.panel(-0.5, 0.5, 0.06, 1.0, body.paint)
        body.panel(-0.45, 0.45, 0.36 + (style % 4) * 0.03, 0.84, glass)
        if style % 3:
            body.panel(-0.3, 0.3, 0.88, 0.96, (40, 130, 170))
        lamp_up, grille = 0.17, (0.2, 0.26)
    body.panel(-0.3, 0.3, *grille, (45, 45, 45))
    body.panel(-0.12, 0.12, 0.12, 0.17, (215, 215, 215))
    for side in (-1, 1):
        body.panel(side * 0.47 - 0.08, side * 0.47 + 0.08, 0.0, 0.12, (24, 24, 24))
        body.lamp(side * 0.4, lamp_up, 0.1)


def _draw_side(body: Body) -> None:
    """Draw the side that faces the camera's axis, with a strip of windows for all but a box truck."""
    actor = body.actor
    if not _shows_side(actor):
        return
    x = _inner_edge(actor)
    rear = actor.length_m
    top = 1.0 if actor.label != "car" else 0.62
    body.shape([(x, 0.08), (x, top), (x, top, rear), (x, 0.08, rear)], body.paint, 0.72)
    glass: Color = (80, 70, 62)
    if actor.label == "car":
        body.shape([(x, 0.6, 0.2 * rear), (x, 0.98, 0.35 * rear), (x, 0.98, 0.8 * rear), (x, 0.6, rear)], glass)
    elif actor.label == "bus" or actor.style % 4 == 0:
        body.shape([(x, 0.5), (x, 0.85), (x, 0.85, rear), (x, 0.5, rear)], glass)


def draw_two_wheeler(body: Body) -> None:
    """Draw a rider on a motorcycle or a bicycle: wheel, body, shoulders, helmet."""
    style = body.actor.style
    body.panel(-0.11, 0.11, 0.0, 0.4, (28, 28, 28))
    if style % 5:
        body.trapezoid(0.28, 0.25, 0.2, 0.55, body.paint)
        body.lamp(0, 0.45, 0.08)
    body.panel(-0.5, 0.5, 0.56, 0.6, (50, 50, 50))
    coat = scaled((90, 80, 75), 0.4 + (style >> 4) % 9 / 6)
    body.trapezoid(0.24, 0.5, 0.38, 0.8, coat)
    body.disc(0, 0.9, 0.13, body.paint if style % 2 else (60, 60, 60), stretch=1.15)


def draw_person(body: Body) -> None:
    """Draw a standing or walking person: legs, coat, arms, head."""
    style = body.actor.style
    step = 0.1 * ((style >> 2) % 4)  # from standing to striding
    trousers = scaled((80, 66, 60), 0.4 + style % 6 / 5)
    for side in (-1, 1):
        hip, foot = side * 0.2, side * (0.2 + step)
        body.shape([(hip - 0.13, 0.5), (hip + 0.13, 0.5), (foot, 0.0), (foot - 0.18, 0.0)], trousers)
    body.trapezoid(0.3, 0.45, 0.42, 0.82, body.paint)
    for side in (-1, 1):
        body.panel(side * 0.46 - 0.07, side * 0.46 + 0.07, 0.42, 0.8, body.paint, 0.85)
    body.disc(0, 0.92, 0.105, (120, 150, 195) if style % 5 else (50, 50, 55), stretch=1.2)


def draw_distractor(body: Body) -> None:
    """Draw a distractor: a sign on a post, a bin, a stack of boxes, a puddle, a shadow."""
    kind = body.actor.style % 5
    if kind == 0:
        body.panel(-0.06, 0.06, 0, 1.0, (120, 120, 120))
        body.disc(0, 1.0, 0.35, body.paint)
    elif kind == 1:
        body.shadow()
        body.trapezoid(0.4, 0, 0.5, 0.8, body.paint)
        body.panel(-0.52, 0.52, 0.8, 0.9, scaled(body.paint, 0.6))
    elif kind == 2:
        body.shadow()
        body.panel(-0.5, 0.5, 0, 0.5, (70, 110, 150))
        body.panel(-0.4, 0.3, 0.5, 1.0, (80, 125, 165))
    else:
        spots = [(-1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.7, 0.0, 3.0), (-0.9, 0.0, 2.5)]
        body.shape(spots, (30.0, 30.0, 30.0) if kind == 3 else (150.0, 150.0, 150.0))
