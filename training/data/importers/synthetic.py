"""Zones of the synthetic rear view: `synthetic`, or `synthetic://?rows=3000&seed=1`."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

from core.errors import InputError
from core.geometry.frame import Bytes
from core.synthetic import BACKGROUND, CLASSES, SCENARIOS, Scene, plan_crops, zone_rects
from training.data.listing import Listing, Options, Sample

ROWS = 3000
WIDTH, HEIGHT = 1280, 720


def matches(source: str) -> bool:
    """Say whether the source asks for the synthetic set."""
    return source == "synthetic" or source.startswith("synthetic:")


def read(source: str, options: Options) -> Listing:
    """List balanced zone crops of the synthetic scene; no frame is drawn yet. Classes and groups are its own."""
    if not matches(source):
        raise InputError(f"{source} is not the synthetic set: give `synthetic`, or synthetic://?rows=3000&seed=1")
    given = {"--classes": options.classes, "--group": options.group, "--group-csv": options.group_csv}
    if refused := [flag for flag, value in given.items() if value is not None]:
        raise InputError(f"{source} has classes and groups of its own: drop {' and '.join(refused)}")
    rows, seed, scenario = _parse(source)
    rects = zone_rects(WIDTH, HEIGHT)
    samples = [
        Sample(f"{scenario}/{crop.scene_seed}/{crop.index}", crop.label, crop.group, None, rects[crop.zone])
        for crop in plan_crops(rows, seed)
    ]
    return Listing(
        importer="synthetic",
        root=f"synthetic://?rows={rows}&seed={seed}&scenario={scenario}",
        samples=samples,
        classes=CLASSES,
        background=BACKGROUND,
        synthetic=True,
        load=load_frame,
    )


def load_frame(name: str) -> Bytes | str:
    """Draw the frame that a sample's source names: scenario/seed/index."""
    scenario, seed, index = name.split("/")
    return _scene(scenario, int(seed)).render(int(index))[0]


@lru_cache(maxsize=1)
def _scene(scenario: str, seed: int) -> Scene:
    return Scene(seed, WIDTH, HEIGHT, scenario)


def _parse(source: str) -> tuple[int, int, str]:
    query = parse_qs(urlsplit(source).query, keep_blank_values=True)
    if unknown := sorted(set(query) - {"rows", "seed", "scenario"}):
        raise InputError(f"{source} has the unknown part {unknown[0]!r}: give rows, seed or scenario")
    try:
        rows, seed = int(query.get("rows", [str(ROWS)])[0]), int(query.get("seed", ["1"])[0])
    except ValueError:
        raise InputError(f"{source}: rows and seed must be whole numbers") from None
    scenario = query.get("scenario", ["mixed"])[0]
    if not 60 <= rows <= 1_000_000 or not 0 <= seed < 1 << 16 or scenario not in SCENARIOS:
        raise InputError(
            f"{source}: give 60 to 1000000 rows, a seed of 0 to 65535, and a scenario of {', '.join(SCENARIOS)}"
        )
    return rows, seed, scenario
