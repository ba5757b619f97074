"""Out-of-distribution images (ood), on which the runner should abstain: blocked lens, noise, textures, other data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from scipy import stats

from core.data.picture_files import scan
from core.data.picture_reader import read_picture
from core.errors import InputError
from core.geometry.frame import Bytes
from core.geometry.preprocess import Geometry, fill, whole
from core.stats import Floats
from core.synthetic import BACKGROUND, CLASSES, draw_zone_crops, plan_crops


def make_ood(geometry: Geometry, background: str | None, folder: Path | None, count: int) -> dict[str, Bytes]:
    """Return {kind: uint8 (n, S, S, 3) RGB}. Empty roads are a kind where the network has no background class."""
    random = np.random.default_rng(0)
    size = geometry.size_px
    pictures = {
        "blocked lens": np.stack([_blocked(size, random) for _ in range(count)]),
        "noise": random.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "textures": np.stack([_texture(size, random) for _ in range(count)]),
    }
    if background is None:
        pictures["empty road (synthetic)"] = _empty_roads(geometry, count)
    if folder is not None:
        pictures[folder.name or "other data"] = _read_folder(folder, geometry, count)
    return pictures


def auroc(known_n: Floats, ood_n: Floats) -> float:
    """Return the probability that a known row scores above an ood image; ties count half (Mann-Whitney U)."""
    u = stats.mannwhitneyu(known_n, ood_n, method="asymptotic").statistic
    return float(u / (len(known_n) * len(ood_n)))


def _blocked(size: int, random: np.random.Generator) -> Bytes:
    """Return a lens blocked by mud, a leaf or tape: one dark color, uneven light, sensor noise."""
    color = random.uniform(0, 90) + random.normal(0, 8, 3)
    # nine random brightnesses, enlarged: dirt close to the lens is out of focus, so its shading is smooth
    brightness = random.uniform(0.6, 1.4, (3, 3))
    light = cv2.resize(brightness, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    noise = random.normal(0, 4, (size, size, 3))
    return np.asarray(np.clip(color * light + noise, 0, 255), np.uint8)


def _texture(size: int, random: np.random.Generator) -> Bytes:
    """Return stripes, checks or cells in two random colors."""
    y, x = np.mgrid[:size, :size] / size
    angle, cells = random.uniform(0, np.pi), random.uniform(3, 14)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    waves = np.sin(2 * np.pi * cells * along)  # stripes
    if random.random() < 0.5:
        waves = waves * np.sin(2 * np.pi * cells * across)  # checks
    # a steep slope gives hard edges, a flat one soft waves
    share = np.clip(waves * random.uniform(0.7, 5) + 0.5, 0, 1)[..., None]
    first, second = random.uniform(0, 255, (2, 3))
    picture = first * share + second * (1 - share) + random.normal(0, 3, (size, size, 3))
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _empty_roads(geometry: Geometry, count: int) -> Bytes:
    # crops are planned evenly over the classes; a pack with the default seed, 0, holds none of the roads of seed 1
    planned = plan_crops(count * len(CLASSES), seed=1)
    plan = [crop for crop in planned if crop.label == BACKGROUND]
    return np.stack([pixels for _, _, pixels in draw_zone_crops(plan, geometry)])


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder. Raises InputError where there is none."""
    files = scan(folder).pictures
    if not files:
        raise InputError(f"{folder} holds no picture: give --ood a folder of images")
    return files


def _read_folder(folder: Path, geometry: Geometry, count: int) -> Bytes:
    files = list_pictures(folder)
    step = max(1, len(files) // count)  # spread over the folder: neighbors in it are often alike
    pictures = []
    for file in files[::step][:count]:
        picture = read_picture(file)
        if not isinstance(picture, str):  # a text is the reason why it cannot be read
            pictures.append(picture)
    if not pictures:
        raise InputError(f"{folder} holds no picture that can be read: give --ood a folder of images")
    out = geometry.empty(len(pictures))
    for i, picture in enumerate(pictures):
        fill(out[i : i + 1], picture, [whole(picture)], geometry)
    return out
