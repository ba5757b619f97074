"""Measure the speed of the data path and of the step against a baseline; with --device, also of the whole loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2

import models
from core.cli import Parser
from core.data.pack import open_pack
from training.bench import data_speed, loop_speed, step_speed
from training.compute.mode import ComputeMode
from training.reports.machine import check_device


def main(arguments: list[str]) -> int | None:
    """Print the ratios: a table, or JSON."""
    parser = Parser("python -m training bench", description=__doc__)
    add = parser.add_argument
    add("pack", nargs="?", type=Path, help="a pack for the data path (default: synthetic JPEGs at 64 and 224 px)")
    add("--models", nargs="+", default=models.names(), metavar="ARCH", help="architectures (default: all but timm's)")
    add("--device", help="also measure the loop on cpu, cuda or cuda:N, with images that are there already")
    add("--size", type=int, help="input side in px (default: 64 for the step, 224 for the loop)")
    add("--batch", type=int, default=128, help="images per step (default: 128)")
    add("--steps", type=int, default=30, help="steps of the loop (default: 30)")
    add("--threads", type=int, help="threads of the step, for both sides (default: one per core)")
    add("--compile", action="store_true", help="use torch.compile in the step and the loop")
    add("--loop-only", action="store_true", help="measure only the loop")
    add("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(arguments)
    check_device(args.device or "cpu")
    cv2.setNumThreads(1)
    archs = tuple(args.models)
    result: dict[str, Any] = {}
    if not args.loop_only:
        result = {
            "data_path": data_speed.measure(open_pack(args.pack) if args.pack else None),
            "step": step_speed.measure_steps(archs, args.size or 64, args.batch, args.threads, compiled=args.compile),
        }
    if args.device:
        result["loop"] = loop_speed.measure_loop(
            archs, args.size or 224, args.batch, args.steps, args.device, args.compile
        )
    print(json.dumps(result, indent=1) if args.json else _table(result))
    return None


def _table(result: dict[str, Any]) -> str:
    lines = []
    if "step" in result:
        lines.append("data path against torchvision on JPEG, one thread each, median of interleaved rounds")
        for row in result["data_path"]:
            lines.append(f"  {row['size_px']:4} px {row['ratio']:6.2f}x  {row['images_per_s']:9.1f} images/s")
        lines.append(f"step against {step_speed.BASELINE_DESCRIPTION}, as many threads, median of interleaved rounds")
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
