"""Measure the speed of the data path and of the step, beside the plain way; with --device, of the whole loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2

import models
from core.cli import Parser
from core.data.pack import open_pack
from training.bench import data as bench_data
from training.bench import loop as bench_loop
from training.bench import step as bench_step
from training.compute.mode import ComputeMode
from training.reports.machine import check_device


def main(arguments: list[str]) -> int | None:
    """Print the ratios: a table, or JSON."""
    it = Parser("python -m training bench", description=__doc__)
    it.add_argument("pack", nargs="?", type=Path, help="a pack (default: synthetic JPEGs at 64 and 224 px)")
    it.add_argument("--models", nargs="+", default=models.names(), metavar="ARCH")
    it.add_argument("--device", help="also the loop on cpu, cuda or cuda:1, its images already there")
    it.add_argument("--size", type=int, help="of the step and the loop (default: 64, and 224 with --device)")
    it.add_argument("--batch", type=int, default=128)
    it.add_argument("--steps", type=int, default=30, help="of the loop (30)")
    it.add_argument("--threads", type=int, help="of the step, on both sides (default: one a core)")
    it.add_argument("--compile", action="store_true", help="torch.compile of the step and the loop")
    it.add_argument("--loop-only", action="store_true", help="leave the data path and the step out")
    it.add_argument("--json", action="store_true")
    given = it.parse_args(arguments)
    check_device(given.device or "cpu")
    cv2.setNumThreads(1)
    archs = tuple(given.models)
    result: dict[str, Any] = {}
    if not given.loop_only:
        result = {
            "data_path": bench_data.measure(open_pack(given.pack) if given.pack else None),
            "step": bench_step.measure_steps(
                archs, given.size or 64, given.batch, given.threads, compiled=given.compile
            ),
        }
    if given.device:
        result["loop"] = bench_loop.measure_loop(
            archs, given.size or 224, given.batch, given.steps, given.device, given.compile
        )
    print(json.dumps(result, indent=1) if given.json else _table(result))
    return None


def _table(result: dict[str, Any]) -> str:
    lines = []
    if "step" in result:
        lines.append("data path against torchvision on JPEG, one thread each, median of interleaved rounds")
        for row in result["data_path"]:
            lines.append(f"  {row['size_px']:4} px {row['ratio']:6.2f}x  {row['images_per_s']:9.1f} images/s")
        lines.append(f"step against {bench_step.PLAIN_IS}, as many threads, median of interleaved rounds")
        for row in result["step"]:
            rates = f"{row['images_per_s']:9.1f} against {row['twin_images_per_s']:.1f} images/s"
            lines.append(f"  {row['arch']:24}{row['ratio']:6.2f}x {rates}, {ComputeMode.from_json(row['mode'])}")
    if loop := result.get("loop"):
        lines.append(f"whole loop on {loop['device']}, {loop['size_px']} px, augmented on the {loop['augment_on']}")
        for row in loop["rows"]:
            rates = f"{row['images_per_s']:9.1f} images/s (the step alone: {row['step_alone']:.1f})"
            lines.append(f"  {row['arch']:24}{rates}, {ComputeMode.from_json(row['mode'])}")
        hours = f"{loop['hours_uvh26_100_epochs']} hours in batches of {loop['batch']}"
        lines.append(f"  {hours} for these networks x 100 epochs x 252,723 images, from {loop['steps']} steps each")
    return "\n".join(lines)
