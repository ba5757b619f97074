"""Importers: one file each, found by its name. An importer lists the samples of a source; it decodes nothing.

Each module has `matches(source: str) -> bool` and `read(source: str, options: PackOptions) -> Listing`.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from core.data.picture_files import check_utf8, describe_paths, printable
from core.errors import InputError
from core.plugins import load_plugin, load_usable, names_in
from training.data.class_map import similar_name_warnings
from training.data.listing import Listing, PackOptions
from training.data.own_camera.background_frames import add_background

PARTS = ("matches", "read")
"""The parts that the module of each importer has."""
ANNOTATION_SUFFIXES = ("json", "jsonl", "ndjson", "json.gz", "xml", "csv", "parquet", "tfrecord", "mat")
"""Suffixes of files that may hold annotations. In a folder `annotations` or `gt`, .txt files may as well."""


def importer_names() -> list[str]:
    """Return the importers there are, by file name."""
    return names_in(__path__)


def find_importer(source: str, wanted: str | None = None) -> ModuleType:
    """Return the importer for a source: the one named, else the only one that recognizes its layout, else `folder`."""
    if wanted is not None and wanted not in importer_names():
        near = difflib.get_close_matches(wanted, importer_names(), n=1, cutoff=0.0)[0]
        raise InputError(f"there is no importer {wanted!r}: did you mean {near}?")
    if wanted is not None:
        return load_plugin(__name__, wanted, PARTS)
    if not source:
        raise InputError("the source is empty: give a folder of images, a detection data set, or `synthetic`")
    modules = load_usable(__name__, (name for name in importer_names() if name != "folder"), PARTS)
    # folder matches every folder, so that it is asked last
    fitting = [name for name, module in modules.items() if module.matches(source)]
    if len(fitting) > 1:
        raise InputError(f"{source} looks like {' and '.join(fitting)}: name one with --format")
    if fitting:
        return modules[fitting[0]]
    if not Path(source).exists():
        raise InputError(f"{source} does not exist: give a folder of images, a detection data set, or `synthetic`")
    # a set that only a broken importer reads would be taken for folders of classes: its error is raised
    for name in importer_names():
        load_plugin(__name__, name, PARTS)
    return load_plugin(__name__, "folder", PARTS)


def _without_unprintable_names(listing: Listing) -> Listing:
    """Return the listing without files whose names are no valid text, and with warnings about them and alike classes.

    Raises InputError for a class whose name is not one line of valid text: every later stage prints it.
    """
    check_utf8(listing.root)
    if unprintable := [name for name in listing.classes if printable(name) != name]:
        raise InputError(
            f"{listing.root}: the class {printable(unprintable[0])} is not named in one line of UTF-8: rename it"
        )
    names = dict.fromkeys(sample.source for sample in listing.samples if not _is_text(sample.source + sample.group))
    if not names:
        return replace(listing, warnings=listing.warnings + similar_name_warnings(listing.classes))
    root = Path(listing.root)
    files = [root / name for name in names]
    left_out = f"left out: {describe_paths('a file whose name is not UTF-8 (rename it)', files, root)}"
    samples = [sample for sample in listing.samples if sample.source not in names]
    if not samples:
        raise InputError(f"{listing.root}: none of its names is UTF-8: rename its files")
    frames = [frame for frame in listing.frames if _is_text(frame.source + frame.group)]
    warnings = [*listing.warnings, left_out, *similar_name_warnings(listing.classes)]
    return replace(listing, samples=samples, frames=frames, warnings=warnings)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unknown_annotation(root: Path) -> str:
    """Return the end of a sentence about a file that looks like annotations in a format that is not read."""
    texts = (f"{above}{folder}/*.txt" for above in ("", "*/") for folder in ("annotations", "gt"))
    tables = (f"{above}*.{kind}" for above in ("", "*/") for kind in ANNOTATION_SUFFIXES)
    files = sorted(file for pattern in (*tables, *texts) for file in root.glob(pattern))
    formats = "COCO JSON, YOLO, Pascal VOC or KITTI"
    return f"; {printable(str(files[0]))} is no annotation of a kind that is read: export {formats}" if files else ""


def read_listing(source: str, options: PackOptions) -> Listing:
    """Return the listing of a source. Raises InputError naming the file when it is missing or malformed."""
    module = find_importer(source, options.format)
    by_folders = options.format is None and module.__name__ == f"{__name__}.folder"
    # annotations of an unknown format lead to `folder`, which would take `images` for a class: its errors say so
    unknown = _unknown_annotation(Path(source)) if by_folders else ""
    try:
        listing = _without_unprintable_names(module.read(source, options))
    except InputError as error:
        raise InputError(f"{error}{unknown}") from None
    if options.background_from is not None:
        if listing.synthetic or (module.__name__ != f"{__name__}.folder" and options.false_alarms is None):
            raise InputError(
                f"{source} has background of its own: --background-from is for a folder data set, "
                "and for pictures with boxes only with --false-alarms"
            )
        listing = add_background(listing, options)
    if options.as_zones is not None and not listing.frames:
        raise InputError(f"{source} holds no labeled frames to cut the zones of {options.as_zones} from: give boxes")
    if unknown and len(listing.classes) == 1:  # a folder `images` beside its annotations is no class
        raise InputError(f"{source} has only the class {listing.classes[0]}{unknown}")
    # last, so that rows which were added are drawn with the others
    if options.resplit:
        samples = [replace(sample, split=None) for sample in listing.samples]
        listing = replace(listing, samples=samples, frames=[replace(frame, split=None) for frame in listing.frames])
    return listing
