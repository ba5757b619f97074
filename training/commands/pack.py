"""Pack a data set: decode it once for one input size."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from core.cli import Parser, options_for
from core.geometry.preprocess import DEFAULT_KERNEL, KERNELS
from training.data.importers import importer_names
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack
from training.reports.pack_table import pack_summary

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
    """Return the command line; each flag that is not SOURCE, --out or --json is a field of PackOptions."""
    parser = Parser(
        "python -m training pack",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder of images, a detection data set, or synthetic")
    parser.add_argument("--out", type=Path, required=True, metavar="PACK", help="the folder to write")
    add_pack_options(parser)
    parser.add_argument("--json", action="store_true", help="print pack.json instead of a table")
    return parser


def add_pack_options(parser: argparse._ActionsContainer) -> None:
    """Add the flags of PackOptions."""
    add = parser.add_argument
    add(
        "--size", dest="size_px", type=int, default=argparse.SUPPRESS,
        help=f"side of the network's input in px (default: {PackOptions.size_px})",
    )  # fmt: skip
    add("--kernel", choices=tuple(KERNELS), default=DEFAULT_KERNEL, help=f"resizing (default: {DEFAULT_KERNEL})")
    add("--group", metavar="REGEX", help="pattern in file names: its group 1, or the whole match, is the group")
    add("--group-csv", type=Path, metavar="FILE", help="a CSV with the columns file,group")
    add("--resplit", action="store_true", help="ignore the source's split folders and draw new splits")
    add("--seed", type=int, default=0, help="seed of splits, calibration rows and training (default: 0)")
    add(
        "--min-side", dest="min_side_px", type=int, default=12, metavar="PX",
        help="reject images and boxes whose shorter side is smaller (default: 12)",
    )  # fmt: skip
    add("--classes", metavar="MAP", help="merge and drop classes: a CSV class,becomes, or uvh26, kitti, coco80")
    add("--margin", type=float, default=0.1, help="context around a box, as a share of its sides (default: 0.1)")
    add(
        "--max-truncated", type=float, default=1.0, metavar="SHARE",
        help="leave out boxes of which more than this share lies outside the image (default: 1: none)",
    )  # fmt: skip
    add(
        "--max-occluded", type=int, default=3, metavar="LEVEL",
        help="leave out boxes hidden more than this: 0 visible, 1 partly, 2 largely, 3 unknown (default: 3: none)",
    )  # fmt: skip
    add(
        "--background",
        type=int,
        metavar="N",
        help="number of background rows (default: the average of a class; with --as-zones: all others together)",
    )
    add(
        "--background-from-unlabeled", "--background-from-unlabelled", action="store_true",
        dest="background_from_unlabelled", help="also cut them from pictures without a label file",
    )  # fmt: skip
    add("--background-class", metavar="NAME", help="the class that means nothing is there")
    add(
        "--background-from",
        type=Path,
        metavar="FRAMES",
        help="pictures, video or recording of your camera without any object",
    )
    add("--false-alarms", type=Path, metavar="FILE", help="CSV first,last[,region]: false alarms of a recording")
    add("--background-model", type=Path, metavar="FILE", help="best.safetensors: cut nothing that it calls an object")
    add("--as-zones", type=Path, metavar="FILE", help="camera.json: a row is a zone of a frame, not a box")
    add(
        "--allow-leaks",
        action="store_true",
        help="keep pictures that are in two splits (test accuracy gets too high)",
    )
    add("--format", choices=importer_names(), help="the importer (default: by the source's layout)")
    add("--processes", type=int, metavar="N", help="number of decoding processes (default: one per core)")


def pack_options_of(args: argparse.Namespace) -> PackOptions:
    """Return the values of the flags that `add_pack_options` added."""
    return PackOptions(**options_for(PackOptions, args))


def main(arguments: list[str]) -> int | None:
    """Pack the source, and print a summary of the pack."""
    args = parser().parse_args(arguments)
    packed = write_pack(args.source, args.out, pack_options_of(args))
    print(json.dumps(packed.metadata, indent=1) if args.json else pack_summary(packed))
    return None
