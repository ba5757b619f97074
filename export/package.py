"""One archive for the device: the bundle, the code proved with it, requirements, a start script and a README."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.bundle.contract import HINT, Bundle, open_bundle
from core.bundle.engine_manifest import FOLDER, engines_of, load_manifest
from core.data.pack import Pack
from core.data.run_dir import Run
from core.errors import InputError
from core.files import replacing, write_json
from inference.proof.verify import check_files_and_engines

ROOT = Path(__file__).parents[1]
DEVICE = Path(__file__).parent / "device"
LOCKS = ("x86-64.txt", "aarch64.txt")
SUMS = "SHA256SUMS"
DOCUMENTS = ("bundle.json", "choice.json", "MODEL_CARD.md")
"""Files of a bundle that bundle.json does not bind: itself, the explained choice, and the model card."""
Files = dict[str, bytes | Path]
"""{name in the archive: its bytes, or the file that holds them}."""


def device_files(bundle: Path) -> Files:
    """Return the files that run one bundle. Raises InputError when one of them is not as it was proved."""
    files = _bundle_files(bundle, "bundle") | _code_of("core") | _code_of("inference")
    files |= {name: DEVICE / name for name in ("run.sh", "rearguard.service", "Dockerfile", "README.md")}
    return files | {f"requirements/{name}": DEVICE / name for name in LOCKS} | {"LICENSE": ROOT / "LICENSE"}


def describe(bundle: Bundle) -> list[str]:
    """Return what the archive of a bundle runs: precision and backend, detector, and engines with their devices."""
    runs = f"{bundle.arch} in {', '.join(bundle.precisions)}"
    if chosen := bundle.choice:
        runs += f", chosen for {chosen.backend}"
    if bundle.detector:
        runs += f", behind a detector ({bundle.detector.layout})"
    engines = [load_manifest(engine, HINT) for engine in engines_of(bundle)]
    said = [f"{m.precision} for {m.target} ({m.runtime} {m.version}, {m.state})" for m in engines]
    lacking = "no engines: for TensorRT build them on the device, with `python -m inference build bundle`"
    return [f"it runs {runs}", f"engines: {'; '.join(said)}; another device builds its own" if said else lacking]


def benchmark_files(run: Run, pack: Pack, scratch: Path) -> Files:
    """Return what measures every candidate on the device and chooses there: benchmarks/, all bundles, test rows."""
    name = f"runs/{run.path.resolve().name}"
    folder = scratch / "pack"
    _write_test_rows(pack, folder)
    # the path on this machine would mean nothing there; a relative one is sought beside run.json
    facts = {**run.metadata, "pack": {**run.metadata["pack"], "path": "pack"}}
    files: Files = {f"{name}/run.json": json.dumps(facts, indent=1).encode()}
    files |= {f"{name}/pack/{path.relative_to(folder)}": path for path in _plain(folder)}
    for arch, bundle in run.bundles().items():
        files |= _bundle_files(bundle, f"{name}/{arch}/bundle")
    files |= _code_of("benchmarks")
    return files | {"benchmark.sh": DEVICE / "benchmark.sh", "requirements/benchmark.txt": DEVICE / "benchmark.txt"}


def _bundle_files(folder: Path, place: str) -> Files:
    """Return the files of a checked bundle, under `place`. Raises InputError for a file that nothing binds."""
    bundle = open_bundle(folder)
    check_files_and_engines(bundle)
    # timing caches make the next build on the device faster; they are no engines and have no manifest
    beside = (f"{FOLDER}/timing.", *(f"{FOLDER}/{engine.name}" for engine in engines_of(bundle)))
    files: Files = {}
    for path in _plain(folder):
        name = str(path.relative_to(folder))
        if name not in {*bundle.files, *DOCUMENTS} and not name.startswith(beside):
            raise InputError(f"{path} is neither bound by {bundle.file} nor part of an engine: remove it")
        files[f"{place}/{name}"] = path
    return files


def _write_test_rows(pack: Pack, folder: Path) -> None:
    """Write the pack's test rows as a pack. It keeps the fingerprint of the whole pack, which the bundles name.

    `taken_rows` holds their numbers in the whole pack, by which parity.json names rows.
    """
    folder.mkdir(parents=True)
    rows = pack.rows("test")
    np.save(folder / "images.npy", np.ascontiguousarray(pack.images_nhwc[rows]))
    lines = (pack.path / "rows.csv").read_text(encoding="utf-8").splitlines()
    # line 0 is the header; the first column is the row's number, which changes
    text = f"{lines[0]}\n"
    for number, row in enumerate(rows):
        _, rest = lines[row + 1].split(",", 1)
        text += f"{number},{rest}\n"
    (folder / "rows.csv").write_text(text, encoding="utf-8")
    # the whole pack may lie in shards, these rows are one file
    facts = {key: value for key, value in pack.metadata.items() if key != "shard_rows"}
    write_json(folder / "pack.json", {**facts, "taken_rows": rows.tolist()})


def _code_of(name: str) -> Files:
    wanted = {".py", ".json", ".j2", ".css", ".js", ".html"}
    files: Files = {}
    for path in sorted((ROOT / name).rglob("*")):
        if path.suffix in wanted and path.is_file():
            files[str(path.relative_to(ROOT))] = path
    return files


def _plain(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InputError(f"{path} is a link: a bundle holds plain files; export the run again")
        if path.is_file() and not path.name.startswith("."):
            yield path


def write_archive(path: Path, top: str, files: Files) -> int:
    """Write a .tar.gz whose one folder is `top`; the same files give the same bytes. Return its size in bytes."""
    contents = {}
    for name, item in sorted(files.items()):
        contents[name] = item if isinstance(item, bytes) else item.read_bytes()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())
    contents[SUMS] = sums.encode()
    with (
        replacing(path) as temporary,
        temporary.open("wb") as stream,
        gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed,  # name and time would change the bytes at each call
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, data in contents.items():
            # a fresh TarInfo has no owner and the time 0, so these do not change the bytes either
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(data)
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(info, io.BytesIO(data))
    return path.stat().st_size
