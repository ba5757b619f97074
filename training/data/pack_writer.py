"""Write a pack: a data set decoded once for one input size. `core/data/pack.py` reads it."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2

from core.data.pack import COLUMNS, SCHEMA, SPLITS, Pack, fingerprint, open_pack
from core.data.several import holds_several, say_first_alone
from core.errors import InputError
from core.files import read_json, replacing_folder, sha256_of_json, write_json
from core.log import shows_progress
from core.machine import cores
from training.data.decode import Done, Frame, Job, Row, run
from training.data.health import Health, examine
from training.data.health_page import write_page
from training.data.image_store import RowFiles, row_files
from training.data.importers import read
from training.data.listing import Listing, Options, Sample
from training.data.splits import check_splits, choose_calibration, join_groups, rank, split_samples

FRAMES_PER_PROCESS = 400
"""A process is worth its second of start for this many frames."""


@dataclass(frozen=True)
class Content:
    """What was written into a pack's folder, and what was found in it."""

    listing: Listing
    samples: list[Sample]
    """In the order in which they were decoded."""
    done: list[Done]
    rows: list[Row]
    warnings: list[str]
    files: RowFiles
    health: Health


def pack(source: str, out: Path, options: Options | None = None) -> Pack:
    """Pack a source into the folder `out` and open it.

    An `out` that exists is never overwritten: it is opened when it was packed from the same files with the same
    options, and is an InputError otherwise. Images are streamed to the disk: memory does not grow with the source.
    A picture in two splits is an InputError where the source made the splits; where we draw them, we draw again with
    its groups made one.
    """
    options = options or Options()
    listing = read(source, options)
    request = _request(listing, options.as_json())
    if out.exists():
        return _reuse(out, listing, options)
    _remove_leftovers(out)
    with replacing_folder(out) as folder:
        content = _fill(folder, source, listing, options)
        if content.health.leaks and not listing.synthetic and not options.allow_leaks:
            if not any(sample.split is None for sample in listing.samples):
                _refuse_leaks(source, out, content, options)
            listing = join_groups(listing, content.health.leaking_groups())
            content = _fill(folder, source, listing, options)
        facts = _facts(content, options) | {"request": request}
        write_page(folder / "health.html", facts, content.health, content.files.open())
        write_json(folder / "pack.json", facts)
        open_pack(folder)  # what cannot be opened never takes its name
    _leaks_page(out).unlink(missing_ok=True)
    return open_pack(out)


def _fill(folder: Path, source: str, listing: Listing, options: Options) -> Content:
    """Write the images and rows.csv."""
    for file in folder.iterdir():
        file.unlink()
    samples = sorted(split_samples(listing, options.seed), key=lambda s: _order(s, options.seed))
    files = row_files(folder, len(samples), options.size_px)
    files.create()
    done = _write_images(files, samples, listing, options)
    kept = [d for d in done if d.reason is None]
    if not kept:
        raise InputError(f"{source}: none of its {len(done)} images can be used ({done[0].reason})")
    files = files.keep([d.row for d in kept])
    warnings = check_splits(source, [samples[d.row] for d in kept], listing) + _in_part(listing, samples, kept)
    rows = _with_calibration(samples, kept, options.seed)
    _write_rows(folder / "rows.csv", rows)
    return Content(listing, samples, done, rows, warnings, files, examine(rows, listing.classes, files.open()))


def _in_part(listing: Listing, samples: list[Sample], kept: list[Done]) -> list[str]:
    """Say which files hold more pictures than the one that was packed."""
    if listing.synthetic:
        return []
    root = Path(listing.root)
    files = (root / name for name in sorted({samples[d.row].source for d in kept}))
    return say_first_alone(filter(holds_several, files), root)


def _leaks_page(out: Path) -> Path:
    return out.with_name(f"{out.name}.leaks.html")


def _refuse_leaks(source: str, out: Path, content: Content, options: Options) -> None:
    """Raise InputError that names the first pair of rows with one picture in two splits; show all beside `out`."""
    page = _leaks_page(out)
    write_page(page, _facts(content, options), content.health, content.files.open())
    raise InputError(
        f"{source}: {content.health.describe(content.health.leaks[0])}, one of {len(content.health.leaks)} such pairs "
        f"(shown in {page}): remove one of each, or let --resplit draw the splits, or keep them with --allow-leaks"
    )


def _order(sample: Sample, seed: int) -> tuple[int, bytes]:
    """Rows stand by split, and shuffled in it: a part read from front to back is a fair sample of its split."""
    return SPLITS.index(str(sample.split)), rank(seed, sample.source, sample.box)


def _request(listing: Listing, options: dict[str, Any]) -> str:
    """Return the sha256 of what decides the pack, file sizes and times included: equal requests, equal packs."""

    def stamp(name: str) -> list[int]:
        try:
            state = Path(listing.root, name).stat()
        except OSError:  # a missing image is listed as rejected later
            return []
        return [state.st_size, state.st_mtime_ns]

    names = sorted({sample.source for sample in listing.samples})
    stamps = [] if listing.synthetic else [stamp(name) for name in names]
    rows = [[s.source, s.label, s.group, s.split, s.box] for s in listing.samples]
    return sha256_of_json([SCHEMA, listing.importer, options, names, stamps, rows, cv2.__version__])


def _reuse(out: Path, listing: Listing, options: Options) -> Pack:
    """Open a pack of the same files and options; one that was packed before an option came has its default."""
    if not (out / "pack.json").is_file():
        raise InputError(f"{out} exists and is not a pack: name another --out, or remove it yourself")
    facts = read_json(out / "pack.json", "remove the folder and pack again")
    packed = facts.get("options") if isinstance(facts, dict) else None
    packed, asked, default = packed if isinstance(packed, dict) else {}, options.as_json(), Options().as_json()
    other = [
        f"{name} {was}, not {value}"
        for name, value in asked.items()
        if (was := packed.get(name, default[name])) != value
    ]
    same_names = {name: asked[name] for name in packed if name in asked}
    if other or facts.get("request") != _request(listing, same_names):
        what = f"made with {', '.join(other)}" if other else "of other files, or of another version of OpenCV"
        raise InputError(f"{out} is a pack {what}: name another --out, or remove it yourself")
    return open_pack(out)


def _remove_leftovers(out: Path) -> None:
    """Remove what killed packs of the same name left behind."""
    for folder in out.parent.glob(f".{out.name}.*.tmp"):
        pid = folder.name.rsplit(".", 2)[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _write_images(files: RowFiles, samples: list[Sample], listing: Listing, options: Options) -> list[Done]:
    """Decode every sample into its row; return what became of each, in row order."""
    by_source = sorted(range(len(samples)), key=lambda row: samples[row].source)
    frames = [
        Frame(name, size, tuple((r, samples[r].box) for r in rows), frozenset(r for r in rows if samples[r].drawn))
        for (name, size), found in groupby(by_source, key=lambda row: (samples[row].source, samples[row].frame_wh))
        for rows in [list(found)]
    ]
    job = Job(listing.load, options.geometry, options.min_side_px, files)
    processes = options.processes or cores()
    processes = max(1, min(processes, len(frames) // FRAMES_PER_PROCESS))
    done: list[Done | None] = [None] * len(samples)
    with _progress(len(samples)) as advance:
        for one in run(job, frames, processes):
            done[one.row] = one
            advance()
    return [one for one in done if one is not None]


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Show a bar on stderr where somebody watches; yield what advances it by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shows_progress()) as bar:
        task = bar.add_task("packing", total=total)
        yield lambda: bar.advance(task)


def _with_calibration(samples: list[Sample], kept: list[Done], seed: int) -> list[Row]:
    train = [i for i, d in enumerate(kept) if samples[d.row].split == "train"]
    of_train = [samples[kept[i].row] for i in train]
    keys = [rank(seed, "calibration", s.source, s.box) for s in of_train]
    chosen = {train[i] for i in choose_calibration([s.label for s in of_train], keys)}
    return [
        Row(samples[d.row], "calibration" if i in chosen else str(samples[d.row].split), d) for i, d in enumerate(kept)
    ]


def _write_rows(file: Path, rows: Iterable[Row]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, row in enumerate(rows):
            box = "" if row.done.rect is None else " ".join(map(str, row.done.rect))
            writer.writerow((number, row.sample.label, row.split, row.sample.group, row.sample.source, box))


def _facts(content: Content, options: Options) -> dict[str, Any]:
    """Return pack.json. `source` is where the files were; the fingerprint knows nothing of it."""
    listing, rows, samples, done = content.listing, content.rows, content.samples, content.done
    labels = [listing.classes.index(row.sample.label) for row in rows]
    counts = Counter((split, row.sample.label) for row in rows for split in _counted_in(row.split))
    rejected = [
        {"source": samples[d.row].source, "box": samples[d.row].box, "reason": d.reason}
        for d in done
        if d.reason is not None
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
            ((label, row.split, row.done.sha256) for label, row in zip(labels, rows, strict=True)),
        ),
        "source": {"importer": listing.importer, "root": listing.root},
        "rows": len(rows),
        "shard_rows": content.files.shard_rows,
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
    """Calibration rows count in train too."""
    return ("train", "calibration") if split == "calibration" else (split,)
