"""The importer of a folder of images: `split/class/*` with its own splits, or `class/*`, split 70/15/15 by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from core.data.picture_files import SPLIT_NAMES, Scan, describe_left_out, scan, split_folders, visible_folders
from core.errors import InputError
from training.data.class_map import read_class_map
from training.data.groups import group_finder
from training.data.listing import Listing, PackOptions, Sample
from training.data.source_files import load_file

NO_CLASS_FOLDERS = frozenset({"images", "imgs", "jpegimages", "masks", "labels", "annotations", "segmentationclass"})
"""Names of folders that hold a data set's pictures or annotations, and are hardly ever classes."""
BESIDE_CLASSES = "a picture beside the class folders"


def matches(source: str) -> bool:
    """Say whether the source is a folder; the importer of last resort."""
    return Path(source).is_dir()


def read(source: str, options: PackOptions) -> Listing:
    """List the images of a folder data set."""
    root = Path(source)
    if not root.is_dir():
        raise InputError(f"{source} is not a folder: give a folder of images, one folder a class")
    found = list(_class_folders(root))
    class_map = read_class_map(options.classes)
    class_map.check_names(folder.name for _, folder in found)
    skipped = Counter[str]()
    group_of = group_finder(root, options)
    samples = []
    scans = [_left_out_beside(folder) for folder in sorted({root, *(folder.parent for _, folder in found)})]
    for split, folder in found:
        found_inside = scan(folder)
        files = found_inside.pictures
        if not files:
            reason = "".join(f" ({line})" for line in describe_left_out([found_inside], root))
            raise InputError(f"{folder} holds no image{reason}: fill it or remove it")
        scans.append(found_inside)
        label = class_map.becomes(folder.name)
        if label is None:  # its pictures are counted, not read
            skipped[f"{folder.name}: dropped by the class map"] += len(files)
            continue
        for file in files:
            name = file.relative_to(root).as_posix()
            samples.append(Sample(name, label, group_of(name), split))
    # sorted: folders come in whatever order the file system has
    classes = tuple(sorted({sample.label for sample in samples}))
    return Listing(
        importer="folder",
        root=str(root.resolve()),
        samples=samples,
        classes=classes,
        background=background_of(classes, options),
        synthetic=False,
        load=partial(load_file, str(root)),
        skipped=dict(skipped),
        warnings=[*describe_left_out(scans, root), *_class_warnings([folder for _, folder in found])],
    )


def _class_warnings(folders: list[Path]) -> list[str]:
    """Return warnings about class folders that look like parts of another kind of data set."""
    warnings = []
    if parts := sorted({folder.name for folder in folders if folder.name.casefold() in NO_CLASS_FOLDERS}):
        warnings.append(
            f"{' and '.join(parts)} are taken for classes, by their folders' names: "
            "of annotated pictures, COCO, YOLO, Pascal VOC and KITTI are read"
        )
    inner_names = [{inner.name for inner in visible_folders(folder)} for folder in folders]
    common = sorted(set.intersection(*inner_names))  # day/car, night/car: conditions were taken for classes
    if common and not any(scan(folder, deep=False).pictures for folder in folders):
        warnings.append(
            f"no class folder holds a picture itself, and each holds a folder {common[0]}: "
            f"if that is the class, put it in place of {folders[0].name}"
        )
    return warnings


def _left_out_beside(folder: Path) -> Scan:
    """Return what a folder of class folders holds outside of them."""
    scanned = scan(folder, deep=False)
    return Scan([], scanned.left_out | ({BESIDE_CLASSES: scanned.pictures} if scanned.pictures else {}))


def _class_folders(root: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield (split or None, class folder)."""
    folders = visible_folders(root)
    if not folders:
        raise InputError(f"{root} holds no folder: give one folder per class, or train, val and test with these inside")
    splits = split_folders(root)
    if not splits:
        yield from ((None, folder) for folder in folders)
        return
    # refused and not left out: it may be a class that was put beside the splits by mistake
    if strays := [folder for folder in folders if folder not in splits]:
        name = splits[0].name
        raise InputError(
            f"{strays[0]} stands beside the split folder {name}: move it into one, or remove it; "
            f"a class that is called {name} holds its pictures itself, not in folders"
        )
    for split in splits:
        found_inside = visible_folders(split)
        if not found_inside:
            raise InputError(f"{split} holds no folder: give one folder per class")
        yield from ((SPLIT_NAMES[split.name.lower()], folder) for folder in found_inside)


def background_of(classes: tuple[str, ...], options: PackOptions) -> str | None:
    """Return the background class, the one that the options name or a class called background or clear; or None."""
    wanted = options.background_class
    if wanted is not None and wanted not in classes:
        raise InputError(f"the background class {wanted!r} is not one of {', '.join(classes)}")
    return wanted or next((name for name in ("background", "clear") if name in classes), None)
