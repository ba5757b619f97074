"""Pack a data set: decode it once for one input size."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

from core.cli import Parser
from core.data.pack import SPLITS, Pack
from core.geometry.preprocess import DEFAULT_KERNEL, KERNELS
from training.data.importers import names
from training.data.listing import Options
from training.data.pack_writer import pack

MOST_LISTED = 40
"""Classes in the table of the terminal."""
EPILOG = """
SOURCE is a folder of images (split/class/* as it is split, or class/* to be split 70/15/15 by group), a detection
data set (COCO JSON, YOLO, Pascal VOC, KITTI objects or tracking: one row a box, cut with context, and background
that overlaps no box), or `synthetic`, or `synthetic://?rows=3000&seed=1&scenario=mixed`.

A detection set and `synthetic` keep their labeled frames in the pack, for `python -m benchmarks --frames-of`, and
--as-zones camera.json makes a row of each zone of each such frame: its class is that of the object that fills most of
it (a quarter of the zone, or a fiftieth and half of the object), else background; a zone that shows less than that of
an object, but more than a trace (a two-hundredth), is left out. `synthetic://?frames=600` is a detection set.

YOLO's classes are named by data.yaml, obj.data or a classes.txt; a polygon or an oriented box is cut by the upright box
around it, key points are passed over where data.yaml has kpt_shape. An annotation that cannot be read is left out,
counted, and the first is named; what may mean two pictures or classes ends with exit code 2. Background is cut only
from pictures whose annotations are all known.

Pictures are found by their suffix and read as OpenCV reads them: of an animated GIF, WebP or PNG and of a TIFF with
pages the first one (the rest is counted), without transparency. A damaged one is rejected with the reason, and so is
one that uses 12 bits or fewer in a file of 16, which would be nearly black. In WebP, JPEG 2000, BMP, PNM, Sun
raster and TIFF without compression only a wrong length can be told, and a gap in a JPEG nearly always, not always.

An --out that exists is never overwritten: when it is a pack of the same files and options nothing is done,
otherwise the command ends with exit code 2.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line; each flag that is not SOURCE, --out or --json is a field of Options."""
    it = Parser(
        "python -m training pack",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    it.add_argument("source", metavar="SOURCE")
    it.add_argument("--out", type=Path, required=True, metavar="PACK", help="the folder to write")
    add_options(it)
    it.add_argument("--json", action="store_true", help="print pack.json instead of a table")
    return it


def add_options(it: argparse._ActionsContainer) -> None:
    """Add the flags of Options."""
    it.add_argument("--size", dest="size_px", type=int, default=224, help="side of the input in px (default 224)")
    it.add_argument("--kernel", choices=tuple(KERNELS), default=DEFAULT_KERNEL, help=f"default {DEFAULT_KERNEL}")
    it.add_argument("--group", metavar="REGEX", help="names the group of a file: group 1, or else the match")
    it.add_argument("--group-csv", type=Path, metavar="FILE", help="names the groups: a CSV with columns file,group")
    it.add_argument("--resplit", action="store_true", help="ignore the source's split folders and draw the splits")
    it.add_argument("--seed", type=int, default=0, help="of the splits and the calibration slice (default 0)")
    it.add_argument("--min-side", dest="min_side_px", type=int, default=12, metavar="PX", help="reject smaller (12)")
    it.add_argument("--classes", metavar="MAP", help="a CSV class,becomes, or uvh26, kitti, coco80")
    it.add_argument("--margin", type=float, default=0.1, help="context around a box, as a part of its sides (0.1)")
    it.add_argument("--max-truncated", type=float, default=1.0, metavar="PART", help="leave out more truncated boxes")
    it.add_argument("--max-occluded", type=int, default=3, metavar="LEVEL", help="leave out more hidden boxes (0-3)")
    it.add_argument("--background", type=int, metavar="N", help="crops without a box (default: as many as a class has)")
    it.add_argument("--background-from-unlabelled", action="store_true", help="cut it also where no label file is")
    it.add_argument("--background-class", metavar="NAME", help="the class that means nothing is there")
    it.add_argument("--as-zones", type=Path, metavar="FILE", help="camera.json: a row is a zone of a frame, not a box")
    it.add_argument("--allow-leaks", action="store_true", help="keep a picture that stands in two splits")
    it.add_argument("--format", choices=names(), help="the importer (default: by the source's layout)")
    it.add_argument("--processes", type=int, metavar="N", help="to decode with (default: one a core)")


def options_of(given: argparse.Namespace) -> Options:
    """Return what the flags of `add_options` say."""
    return Options(**{field.name: getattr(given, field.name) for field in fields(Options)})


def main(arguments: list[str]) -> int | None:
    """Pack and print what stands in the pack."""
    given = parser().parse_args(arguments)
    made = pack(given.source, given.out, options_of(given))
    print(json.dumps(made.facts, indent=1) if given.json else summary(made))
    return None


def summary(made: Pack) -> str:
    """Return the table of rows by split and class, and what was rejected."""
    width = max(map(len, (*made.classes, "class")))
    lines = [
        f"{made.path}: {len(made.labels_n)} rows of {made.geometry.size_px} px from {made.facts['source']['importer']}"
        + (" (SYNTHETIC: for trying out, not for a car)" if made.synthetic else ""),
        f"{'class':{width}}" + "".join(f"{split:>13}" for split in SPLITS),
    ]
    for name in made.classes[:MOST_LISTED]:
        note = "  background" if name == made.background else ""
        lines.append(f"{name:{width}}" + "".join(f"{made.counts[split][name]:13}" for split in SPLITS) + note)
    if len(made.classes) > MOST_LISTED:
        lines.append(f"and {len(made.classes) - MOST_LISTED} classes more, see {made.path / 'health.html'}")
    rejected = made.facts["rejected"]
    lines.append(f"rejected: {len(rejected)}" + (f", see {made.path / 'pack.json'}" if rejected else ""))
    lines += [f"  {one['source']}: {one['reason']}" for one in rejected[:5]]
    firsts = made.facts.get("first_skipped", {})  # packed before there was one
    of_pictures = made.facts["source"]["importer"] == "folder"
    for reason, n in made.facts["skipped"].items():
        what = ("picture" if of_pictures else "box") if n == 1 else ("pictures" if of_pictures else "boxes")
        lines.append(f"left out: {n} {what}, {reason}" + (f"; first {firsts[reason]}" if reason in firsts else ""))
    lines += health_lines(made)
    lines += [f"warning: {warning}" for warning in made.facts["warnings"]]
    lines.append(f"fingerprint {made.fingerprint}")
    return "\n".join(lines)


def health_lines(made: Pack) -> list[str]:
    """Return the health of a pack in two lines: sizes, and pictures that stand in it twice."""
    health = made.facts["health"]
    sizes = [of_class["rows"] for of_class in health["classes"].values()]
    return [
        f"largest to smallest class: {max(sizes) / max(min(sizes), 1):.1f}; {health['enlarged']} of "
        f"{made.facts['rows']} pictures are smaller than {made.geometry.size_px} px",
        f"one picture twice: {health['exact_duplicates']} pairs of the same pixels, {health['near_duplicates']} near; "
        f"{health['across_splits']} across splits, {health['across_classes']} across classes; "
        f"see {made.path / 'health.html'}",
    ]
