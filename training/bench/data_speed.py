"""The speed of the data path against a baseline: torchvision's transforms v1 on JPEGs that Pillow decodes.

Both give a normalized float32 batch and use one thread.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from core.data.pack import Pack
from core.data.picture_reader import read_picture
from core.geometry.frame import Bytes
from core.geometry.preprocess import Geometry, clip_rect, fill, whole
from core.synthetic import draw_zone_crops, plan_crops
from core.timing import interleave
from models.deployed import DeployedNetwork
from training.augment.cpu import Augmentation
from training.bench.step_speed import compare_rates
from training.recipe import Recipe
from training.recipes import load_recipe

SIZES_PX = (64, 224)
IMAGES_PER_ROUND = 128
ROUNDS = 7
JPEG_QUALITY = 90
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Source: torchvision's reference training, of ImageNet."""


def baseline_transform(recipe: Recipe, size_px: int) -> Any:
    """Return the usual torchvision transforms of a recipe: a PIL image -> float32 (3, S, S), normalized."""
    steps = [
        transforms.Resize((size_px, size_px)),
        transforms.RandomHorizontalFlip(recipe.flip_p),
        transforms.RandomRotation(recipe.rotation_deg),
        transforms.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue),
        transforms.RandomAffine(0, (recipe.translate, recipe.translate), (recipe.scale_min, recipe.scale_max)),
        transforms.RandomPerspective(recipe.perspective, recipe.perspective_p),
        transforms.RandomGrayscale(recipe.grayscale_p),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
        transforms.RandomErasing(recipe.erase_p, (recipe.erase_area_min, recipe.erase_area_max)),
    ]
    return transforms.Compose(steps)


def measure(
    pack: Pack | None = None,
    sizes_px: tuple[int, ...] | None = None,
    recipe: Recipe | None = None,
    rounds: int = ROUNDS,
    batch: int = IMAGES_PER_ROUND,
) -> list[dict[str, Any]]:
    """Return the median images/s of both paths for each size, measured in turns, batch by batch.

    Without a pack the images are zones of the synthetic camera. The baseline decodes each crop from a JPEG in memory,
    of the crop's own size, or of the input's size when the source image is gone.
    """
    recipe = recipe or load_recipe("after")
    sizes_px = sizes_px or ((pack.geometry.size_px,) if pack else SIZES_PX)
    with _one_thread():
        return [_measure_size(pack, size_px, recipe, rounds, batch) for size_px in sizes_px]


def _measure_size(pack: Pack | None, size_px: int, recipe: Recipe, rounds: int, batch: int) -> dict[str, Any]:
    images_nhwc, jpegs = _images_of_pack(pack, size_px, batch) if pack else _synthetic_images(size_px, batch)
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    augmentation = Augmentation(recipe, size_px, MEAN)
    transform = baseline_transform(recipe, size_px)
    normalize = DeployedNetwork(nn.Identity(), MEAN, STD).normalize

    def ours() -> Tensor:
        rows = random.permutation(len(images_nhwc))
        return normalize(torch.from_numpy(augmentation(images_nhwc[rows], random)))

    def baseline() -> Tensor:
        return torch.stack([transform(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs])

    assert ours().shape == baseline().shape  # and the first call of each, which is slower, is not timed
    seconds = list(islice(interleave([partial(_seconds, ours), partial(_seconds, baseline)]), rounds))
    return {
        "size_px": size_px,
        **compare_rates(len(jpegs), seconds),
        "recipe": recipe.name,
        "batch": len(jpegs),
        "rounds": rounds,
        "threads": 1,
        "images": str(pack.path) if pack else "synthetic",
        "jpeg_kib": round(sum(map(len, jpegs)) / len(jpegs) / 1024, 1),
    }


def _seconds(run: Callable[[], Tensor]) -> float:
    started = perf_counter()
    run()
    return perf_counter() - started


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _synthetic_images(size_px: int, n: int) -> tuple[Bytes, list[bytes]]:
    """Return n zones of the synthetic camera, as pixels and as JPEGs of the input's size, the fastest to decode."""
    drawn = draw_zone_crops(plan_crops(n), Geometry(size_px), width=640, height=360)
    images_nhwc = np.stack([pixels for _, _, pixels in drawn])
    return images_nhwc, [_jpeg(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)) for image in images_nhwc]


def _images_of_pack(pack: Pack, size_px: int, n: int) -> tuple[Bytes, list[bytes]]:
    """Return n training rows at a size, as pixels, and the crops behind them, as JPEGs."""
    rows = np.random.default_rng(0).permutation(pack.rows("train"))[:n]
    crops = [_crop(pack, int(row)) for row in rows]
    geometry = Geometry(size_px, pack.geometry.kernel)
    images_nhwc = geometry.empty(len(crops))
    for i, crop in enumerate(crops):
        fill(images_nhwc[i : i + 1], crop, [whole(crop)], geometry)
    return images_nhwc, [_jpeg(crop) for crop in crops]


def _crop(pack: Pack, row: int) -> Bytes:
    """Return the row's part of its source image, BGR, or the row itself when the image is gone."""
    frame = read_picture(Path(pack.metadata["source"]["root"], pack.sources_n[row]))
    if isinstance(frame, str):
        return np.ascontiguousarray(pack.images_nhwc[row][..., ::-1])
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = clip_rect(pack.boxes_n[row] or whole(frame), width, height)
    return frame[y0:y1, x0:x1]


def _jpeg(image_bgr: Any) -> bytes:
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
