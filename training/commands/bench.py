"""Measure the speed of the data path and of the step, beside the plain way; with --device, of the whole loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2

from inference.commands import Parser
from inference.pack import open_pack
from training import bench_data, bench_loop
from training.commands.train import OURS, check_device


def main(arguments: list[str]) -> int | None:
    """Print the ratios: a table, or JSON."""
    it = Parser("python -m training bench", description=__doc__)
    it.add_argument("pack", nargs="?", type=Path, help="a pack (default: synthetic JPEGs at 64 and 224 px)")
    it.add_argument("--models", nargs="+", default=OURS, metavar="ARCH")
    it.add_argument("--device", help="also the loop on cpu, cuda or cuda:1, its images already there")
    it.add_argument("--size", type=int, help="of the step and the loop (default: 64, and 224 with --device)")
    it.add_argument("--batch", type=int, default=128)
    it.add_argument("--steps", type=int, default=30, help="of the loop (30)")
    it.add_argument("--json", action="store_true")
    given = it.parse_args(arguments)
    check_device(given.device or "cpu")
    cv2.setNumThreads(1)
    archs = tuple(given.models)
    result: dict[str, Any] = {
        "data_path": bench_data.measure(open_pack(given.pack) if given.pack else None),
        "step": bench_loop.measure_steps(archs, given.size or 64, given.batch),
    }
    if given.device:
        loop = bench_loop.measure_loop(archs, given.size or 224, given.batch, given.steps, given.device)
        result["loop"] = loop
    if given.json:
        print(json.dumps(result, indent=1))
        return None
    print("data path against torchvision on JPEG, one thread each, median of interleaved rounds")
    for row in result["data_path"]:
        print(f"  {row['size_px']:4} px {row['ratio']:6.2f}x  {row['images_per_s']:9.1f} images/s")
    print("step against eager fp32 contiguous, median of interleaved rounds")
    for row in result["step"]:
        mode = f"{row['mode']['precision']} {row['mode']['memory_format']}"
        print(f"  {row['arch']:24}{row['ratio']:6.2f}x  {row['images_per_s']:9.1f} images/s  {mode}")
    if given.device:
        print(f"whole loop on {given.device}, {loop['size_px']} px, batch {loop['batch']}")
        for arch, images_per_s in loop["images_per_s"].items():
            print(f"  {arch:24}{images_per_s:9.1f} images/s")
        print(f"  {loop['hours_uvh26_100_epochs']} hours for these networks x 100 epochs x 252,723 images")
    return None
