"""Write a pack: a data set decoded once for one input size. `core/data/pack.py` reads it.

Splits are assigned before decoding, which writes the rows in their order. The duplicates are known only after it: where
a picture lies in two splits that were drawn here, its groups are joined and the splits are assigned a second time.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from core.data.labeled_frames import LabeledFrame, describe_frames, write_frames
from core.data.pack import COLUMNS, SCHEMA, SPLITS, Pack, fingerprint, open_pack
from core.data.picture_files import describe_partly_read
from core.data.picture_reader import holds_several_pictures
from core.errors import InputError
from core.files import read_json, replacing_folder, sha256_of_json, write_json
from core.locks import locked
from training.data.decode import DecodeResult, PackRow, decode_samples
from training.data.health import Health, examine
from training.data.health_page import write_page
from training.data.image_store import ImageStore, plan_images
from training.data.importers import read_listing
from training.data.listing import Listing, PackOptions, Sample
from training.data.source_files import file_of
from training.data.splits import check_splits, choose_calibration, join_groups, shuffle_key, split_frames, split_samples


@dataclass(frozen=True)
class PackContent:
    """The content of a pack that is being written, and its health."""

    listing: Listing
    results: list[DecodeResult]
    """One for each sample of the listing; `row` of a sample that was kept is its row in the store."""
    store: ImageStore
    samples: list[Sample]
    """The listing's samples, each with its split."""
    rows: list[PackRow]
    frames: list[LabeledFrame]
    warnings: list[str]
    health: Health


def write_pack(source: str, out: Path, options: PackOptions | None = None) -> Pack:
    """Pack a source into the folder `out` and open it.

    An existing `out` is never overwritten. It is opened if it was packed from the same files with the same options;
    otherwise InputError is raised. Images are streamed to the disk, so memory does not grow with the source.
    A picture in two splits is an InputError when the source made the splits. When the splits are drawn here, the groups
    of both copies are joined, the splits are drawn again, and the decoded rows move to their new places.
    """
    options = options or PackOptions()
    listing = read_listing(source, options)
    request = _request_digest(listing, options.as_json())
    if out.exists():
        return _reuse(out, listing, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if out.exists():  # another process made it in between
            return _reuse(out, listing, options)
        _write(source, listing, out, options, request)
    _leaks_page(out).unlink(missing_ok=True)
    return open_pack(out)


def _write(source: str, listing: Listing, out: Path, options: PackOptions, request: str) -> None:
    with replacing_folder(out) as folder:
        samples = split_samples(listing, options.seed)
        store, results = _decode(folder, listing, samples, options)
        content = _arrange(source, listing, samples, store, results, options)
        if content.health.cross_split_duplicates and not listing.synthetic and not options.allow_leaks:
            if not any(sample.split is None for sample in listing.samples):  # the source made the splits
                _refuse_leaks(source, out, content, options)
            listing = join_groups(listing, content.health.groups_to_join())
            samples = split_samples(listing, options.seed)
            content = _arrange(source, listing, samples, content.store, content.results, options)
        _write_rows(folder / "rows.csv", content.rows)
        if content.frames:
            write_frames(folder, content.frames)
        metadata = _metadata(content, options) | {"request": request}
        write_page(folder / "health.html", metadata, content.health, content.store.open())
        write_json(folder / "pack.json", metadata)
        open_pack(folder)  # what cannot be opened never takes its name


def _decode(
    folder: Path, listing: Listing, samples: list[Sample], options: PackOptions
) -> tuple[ImageStore, list[DecodeResult]]:
    """Decode every sample into a row of the store; return one result for each sample of the listing.

    The rows are written in the order that the pack has if nothing is rejected and no groups are joined: `_arrange`
    then has nothing to move.
    """
    order = _pack_order(samples, options.seed)
    store = plan_images(folder, len(order), options.size_px)
    store.create()
    written = decode_samples(store, [samples[index] for index in order], listing, options)
    results = dict(zip(order, written, strict=True))
    return store, [results[index] for index in range(len(samples))]


def _arrange(
    source: str,
    listing: Listing,
    samples: list[Sample],
    store: ImageStore,
    results: list[DecodeResult],
    options: PackOptions,
) -> PackContent:
    """Move the decoded rows into the order of the pack, by the splits of `samples`, and look for duplicates.

    It is called a second time when duplicates joined groups of the listing: other splits, but the same decoded rows.
    """
    kept = [index for index in _pack_order(samples, options.seed) if results[index].reason is None]
    if not kept:
        raise InputError(f"{source}: none of its {len(results)} images can be used ({results[0].reason})")
    store = store.arrange([results[index].row for index in kept])
    results = [*results]  # a copy: the results of the first draw stay as they were
    for row, index in enumerate(kept):
        results[index] = replace(results[index], row=row)
    kept_samples = [samples[index] for index in kept]
    warnings = check_splits(source, kept_samples, listing) + _partly_read(listing, kept_samples)
    rows = _with_calibration(kept_samples, [results[index] for index in kept], options.seed)
    frames = split_frames(listing, samples, options.seed)
    health = examine(rows, listing.classes, store.open())
    return PackContent(listing, results, store, samples, rows, frames, warnings, health)


def _pack_order(samples: list[Sample], seed: int) -> list[int]:
    """Return the numbers of the samples in the order of the rows: by split, and shuffled within each.

    The first rows of a split are thus a random sample of it.
    """

    def key(index: int) -> tuple[int, bytes]:
        sample = samples[index]
        return SPLITS.index(str(sample.split)), shuffle_key(seed, sample.source, sample.box)

    return sorted(range(len(samples)), key=key)


def _partly_read(listing: Listing, samples: list[Sample]) -> list[str]:
    """Return a warning about files that hold more pictures than the one that was packed."""
    if listing.synthetic:
        return []
    root = Path(listing.root)
    # a source that names a frame of a video is not its file: all frames of a video are rows
    names = {sample.source for sample in samples if file_of(sample.source) == sample.source}
    files = (root / name for name in sorted(names))
    return describe_partly_read(filter(holds_several_pictures, files), root)


def _leaks_page(out: Path) -> Path:
    return out.with_name(f"{out.name}.leaks.html")


def _refuse_leaks(source: str, out: Path, content: PackContent, options: PackOptions) -> None:
    """Write a page of the duplicates across splits, beside `out`; raise InputError naming the first pair."""
    page = _leaks_page(out)
    leaks = content.health.cross_split_duplicates
    write_page(page, _metadata(content, options), content.health, content.store.open())
    raise InputError(
        f"{source}: {content.health.describe(leaks[0])}, one of {len(leaks)} such pairs "
        f"(shown in {page}): remove one of each, or let --resplit draw the splits, or keep them with --allow-leaks"
    )


def _request_digest(listing: Listing, options: dict[str, Any]) -> str:
    """Return the sha256 of everything that decides the pack, including file sizes and times.

    OpenCV's version belongs to it, because its decoders and resize differ by a gray level between versions.
    """

    def file_state(name: str) -> list[int]:
        try:
            state = Path(listing.root, name).stat()
        except OSError:  # a missing image is listed as rejected later
            return []
        return [state.st_size, state.st_mtime_ns]

    # size and time stand for the content: hashing it would read the whole source again
    names = sorted({file_of(sample.source) for sample in listing.samples})
    file_states = [] if listing.synthetic else [file_state(name) for name in names]
    rows = [[s.source, s.label, s.group, s.split, s.box] for s in listing.samples]
    return sha256_of_json([SCHEMA, listing.importer, options, names, file_states, rows, cv2.__version__])


def _reuse(out: Path, listing: Listing, options: PackOptions) -> Pack:
    """Open the pack `out` if it was made of the same files and options; an option it does not know has its default."""
    if not (out / "pack.json").is_file():
        raise InputError(f"{out} exists and is not a pack: name another --out, or remove it yourself")
    metadata = read_json(out / "pack.json", "remove the folder and pack again")
    packed = metadata.get("options") if isinstance(metadata, dict) else None
    packed = packed if isinstance(packed, dict) else {}
    asked = options.as_json()
    default = PackOptions().as_json()
    other = []
    for name, value in asked.items():
        before = packed.get(name, default[name])
        if before != value:
            other.append(f"{name} {before}, not {value}")
    # the digest of an older pack was made without the options that came later
    same_names = {name: asked[name] for name in packed if name in asked}
    if other or metadata.get("request") != _request_digest(listing, same_names):
        what = f"made with {', '.join(other)}" if other else _other_content(metadata, listing, asked)
        raise InputError(f"{out} is a pack {what}: name another --out, or remove it yourself")
    return open_pack(out)


def _other_content(metadata: dict[str, Any], listing: Listing, asked: dict[str, Any]) -> str:
    """Return in what a pack of the same options differs, as far as pack.json tells."""
    classes = metadata.get("classes", [])
    if classes != [*listing.classes]:
        return f"made with the classes {', '.join(classes)}, not {', '.join(listing.classes)}"
    # of these files pack.json holds the names alone
    files = [asked[name] for name in ("classes", "group_csv", "false_alarms", "as_zones")]
    named = [f"of another {file}" for file in files if file]
    return ", ".join(["of other files", *named, "or of another version of OpenCV"])


def _with_calibration(samples: list[Sample], results: list[DecodeResult], seed: int) -> list[PackRow]:
    """Return the rows of the pack, with some of train as calibration rows."""
    train = [row for row, sample in enumerate(samples) if sample.split == "train"]
    labels = [samples[row].label for row in train]
    keys = [shuffle_key(seed, "calibration", samples[row].source, samples[row].box) for row in train]
    chosen = {train[index] for index in choose_calibration(labels, keys)}
    rows = []
    for row, (sample, result) in enumerate(zip(samples, results, strict=True)):
        split = "calibration" if row in chosen else str(sample.split)
        rows.append(PackRow(sample, split, result))
    return rows


def _write_rows(file: Path, rows: Iterable[PackRow]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")  # csv's own is \r\n
        writer.writerow(COLUMNS)
        for number, row in enumerate(rows):
            sample, rect = row.sample, row.result.rect
            box = "" if rect is None else " ".join(map(str, rect))
            writer.writerow((number, sample.label, row.split, sample.group, sample.source, box))


def _metadata(content: PackContent, options: PackOptions) -> dict[str, Any]:
    """Return pack.json. `source` is the place of the files, which the fingerprint does not depend on."""
    listing, rows = content.listing, content.rows
    labels = [listing.classes.index(row.sample.label) for row in rows]
    # a calibration row counts in train, too
    counts = Counter((split, row.sample.label) for row in rows for split in _counted_in(row.split))
    rejected = [
        {"source": sample.source, "box": sample.box, "reason": result.reason}
        for sample, result in zip(content.samples, content.results, strict=True)
        if result.reason is not None
    ]
    return {
        "schema": SCHEMA,
        "classes": list(listing.classes),
        "background": listing.background,
        "geometry": options.geometry.as_json(),
        "synthetic": listing.synthetic,
        "fingerprint": fingerprint(
            listing.classes,
            listing.background,
            options.geometry,
            ((label, row.split, row.result.sha256) for label, row in zip(labels, rows, strict=True)),
        ),
        "source": {"importer": listing.importer, "root": listing.root},
        "rows": len(rows),
        "shard_rows": content.store.shard_rows,
        "frames": describe_frames(content.frames),
        "zones": {name: list(zone) for name, zone in listing.zones.items()},
        "groups": len({row.sample.group for row in rows}),
        "counts": {split: {name: counts[split, name] for name in listing.classes} for split in SPLITS},
        "rejected": sorted(listing.rejected + rejected, key=lambda r: (str(r["source"]), str(r["box"]))),
        "skipped": listing.skipped,
        "first_skipped": listing.first_skipped,
        "warnings": listing.warnings + content.warnings + ([] if listing.synthetic else content.health.warnings),
        "health": content.health.as_json(),
        "options": options.as_json(),
    }


def _counted_in(split: str) -> tuple[str, ...]:
    """Return the splits whose counts hold a row: calibration rows count in train too."""
    return ("train", "calibration") if split == "calibration" else (split,)
