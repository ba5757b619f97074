"""The bundle: `bundle.json` and the files that it binds, which export, benchmarks and the runner exchange."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundle.production_choice import ProductionChoice
from core.codec import from_json, known_keys, to_json
from core.data.picture_files import check_utf8
from core.errors import InputError
from core.files import put_back, read_object, read_sealed, sealed, sha256_of_file, sha256_of_json, write_json
from core.geometry.detector_config import DetectorConfig
from core.geometry.preprocess import Geometry

SCHEMA, SCHEMA_WITHOUT_DETECTOR = 2, 1
"""A bundle without a detector is written in schema 1, which has no key `detector`, so that older runners read it."""
DETECTOR = "detector.onnx"
# docs/plugins.md, "How to add a precision", lists what else must know of one
PRECISIONS = ("fp32", "fp16", "int8")
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2}
"""Largest |dprob| allowed between a golden frame's stored and recomputed probabilities."""
Probs = NDArray[np.float32]
INPUT = {"name": "frames", "dtype": "uint8", "layout": "nhwc", "output": "probs"}
HINT = "export the run again with `python -m export`"


UNSIGNED = ".ort"
"""The suffix of int8's unsigned form: model.int8.ort.onnx, and the key int8.ort in golden.npz.

An int8 network ships in two forms: the signed one, which TensorRT needs, and the unsigned one, which is fast in ONNX
Runtime and OpenVINO on a CPU. Export derives the second from the first (`to_unsigned` in export/precision/int8.py).
"""
UNSIGNED_INT8 = "int8 ort"
"""The name of the unsigned form in parity.json and in the checks of a gate; the signed form's is `int8`."""


def onnx_name(precision: str, *, unsigned: bool = False) -> str:
    """Return the file name of a precision. unsigned: of the unsigned form, which int8 alone has."""
    return f"model.{precision}{UNSIGNED if unsigned else ''}.onnx"


@dataclass(frozen=True)
class _BoundFile:
    """The entry of a bound file in `files`."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class _PlainKeys:
    """The keys of bundle.json that are read as they stand, with their types."""

    arch: str
    synthetic: bool
    selectable: bool
    temperature: float
    abstain_threshold: float
    provenance: dict[str, object]
    files: dict[str, _BoundFile]
    gates: dict[str, dict[str, object]]


@dataclass(frozen=True)
class Bundle:
    """`bundle.json` as an object. `path` is the folder; the rest are its keys, in the file's order."""

    path: Path
    arch: str
    synthetic: bool
    selectable: bool
    """False for a bundle exported at another size than it was trained at: for latency only."""
    classes: tuple[str, ...]
    background: str | None
    geometry: Geometry
    temperature: float
    abstain_threshold: float
    """A region whose top probability is under it is UNKNOWN. Chosen on rows or on frames of val."""
    provenance: dict[str, Any]
    """Pack path and fingerprint, checkpoint sha256, commit, tool versions, metrics of the checkpoint, and `abstention`.

    `abstention` says on what the threshold was fitted, and the coverage and risk that it reached there.
    """
    files: dict[str, dict[str, Any]]
    """{file name: {"sha256", "bytes"}} of everything but engines/."""
    gates: dict[str, dict[str, Any]]
    """{precision: {"passed": bool, "checks": [{"name", "value", "limit", "passed"}], ...}}."""
    choice: ProductionChoice | None = None
    """The choice of `benchmarks` in the production bundle; else None."""
    detector: DetectorConfig | None = None
    """The complete configuration of the detector in front, `detector.onnx`; None without one."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise InputError(f"{self.file}: classes must be at least two different names; {HINT}")
        if self.background is not None and self.background not in self.classes:
            raise InputError(f"{self.file}: background {self.background!r} is not one of the classes; {HINT}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"{self.file}: temperature is {self.temperature!r}, it must be above 0; {HINT}")
        if not (math.isfinite(self.abstain_threshold) and 0 <= self.abstain_threshold <= 1):
            raise InputError(f"{self.file}: abstain_threshold is {self.abstain_threshold!r}, give 0 to 1; {HINT}")
        for name in self.files:
            if Path(name).name != name or name in {".", ".."}:  # a file from elsewhere must not lead out of its folder
                raise InputError(f"{self.file}: the file name {name!r} leaves the bundle; {HINT}")

    @property
    def file(self) -> Path:
        """The path of bundle.json."""
        return self.path / "bundle.json"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions whose ONNX file is here and whose gates passed, in PRECISIONS' order."""
        # both conditions: files are bound before the proof, and their gates may still fail
        exported = [p for p in PRECISIONS if onnx_name(p) in self.files]
        return tuple(p for p in exported if self.gates.get(p, {}).get("passed"))

    @property
    def contract_hash(self) -> str:
        """The sha256 of the keys that must not change on the way to the car; engines and decisions carry it too."""
        # not the weights: two precisions of a network, or a network trained longer, may serve one contract
        return sha256_of_json(
            {
                "classes": list(self.classes),
                "background": self.background,
                "input": INPUT,
                "geometry": self.geometry.as_json(),
                "temperature": self.temperature,
                "abstain_threshold": self.abstain_threshold,
            }
        )

    def as_json(self) -> dict[str, Any]:
        """Return the content of bundle.json, with `contract` and `digest` last."""
        body: dict[str, Any] = {"schema": SCHEMA if self.detector else SCHEMA_WITHOUT_DETECTOR}
        for item in fields(self)[1:]:
            body[item.name] = to_json(getattr(self, item.name))
        detector = body.pop("detector")
        body |= {"geometry": self.geometry.as_json(), "input": INPUT}
        # no key without a detector: the digest of a bundle of schema 1 must not change
        if detector:
            body["detector"] = detector
        return sealed({**body, "contract": self.contract_hash})

    def save(self) -> None:
        """Write bundle.json, atomically."""
        write_json(self.file, self.as_json())

    def with_files(self, names: list[str]) -> Bundle:
        """Return a copy that binds these files of the folder, by the sha256 that they have now."""
        entries = {
            name: {"sha256": sha256_of_file(self.path / name), "bytes": (self.path / name).stat().st_size}
            for name in sorted(names)
        }
        return replace(self, files=entries)

    def check_files(self) -> None:
        """Raise InputError naming the first bound file whose bytes are not those that were proved."""
        for name in self.files:
            self.check_file(name)

    def check_precision(self, precision: str) -> None:
        """Raise InputError where the bundle does not hold a precision, or where its gates failed."""
        if precision in self.precisions:
            return
        held = ", ".join(self.precisions) or "none"
        failed = precision in self.gates and not self.gates[precision].get("passed")
        what = f"{precision} that passed its gates" if failed else precision
        hint = f"name one that it holds, or export the run with --precisions {precision}"
        if self.choice:  # production holds the chosen precision alone
            hint = "name one that it holds, or give the run's bundle of the architecture"
        raise InputError(f"{self.path} holds no {what} (it holds {held}): {hint}")

    def check_file(self, name: str) -> Path:
        """Return the path of a bound file whose bytes are those that were proved. Raises InputError otherwise."""
        path = self.path / name
        entry = self.files.get(name)
        if entry is None:
            raise InputError(f"{path} is not bound by {self.file}; {HINT}")
        if not path.is_file():
            raise InputError(f"{path} is missing from the bundle; {HINT}")
        # the size first: hashing reads the whole file
        if path.stat().st_size != entry["bytes"] or sha256_of_file(path) != entry["sha256"]:
            raise InputError(f"{path} is not the file that was proved (its sha256 differs from bundle.json); {HINT}")
        return path


def open_bundle(path: Path) -> Bundle:
    """Open a bundle folder and check bundle.json; the files that it binds are checked when they are used.

    Raises InputError naming the key when the schema, a key, the digest or the contract hash is not as written.
    """
    # nothing of the bundle is opened before bundle.json has proved to be as it was written
    file = path / "bundle.json"
    check_utf8(path)
    if path.is_file():
        raise InputError(f"{path} is a file, a bundle is a folder: {_hint_of_file(path)}")
    if not path.exists():
        put_back(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a bundle: there is no such folder; {_hint_of_missing(path)}")
    names = [item.name for item in fields(Bundle)[1:]]
    if not file.exists() and (path / "run.json").is_file():
        raise InputError(f"{path} is a run, not a bundle: {_hint_of_run(path)}")
    if not file.exists():
        raise InputError(f"{path} is not a bundle: it holds no bundle.json; {_hint_of_missing(path)}")
    # exactly the keys of its schema are expected below, and only this one differs
    has_detector = read_object(file, HINT).get("schema") != SCHEMA_WITHOUT_DETECTOR
    names = [name for name in names if has_detector or name != "detector"]
    schema = SCHEMA if has_detector else SCHEMA_WITHOUT_DETECTOR
    body = read_sealed(file, [*names, "input", "contract"], schema, HINT)
    if body["input"] != INPUT:
        raise InputError(f"{file}: input is {body['input']}, this version knows only {INPUT}; {HINT}")
    _check_plain_keys(file, body)
    try:
        values = {name: body[name] for name in names}
        values |= {"classes": tuple(body["classes"]), **_read_parts(file, body)}
        where = f"{file}: choice (choose again with python -m benchmarks)"
        values["choice"] = from_json(ProductionChoice, body["choice"], where) if body["choice"] else None
        bundle = Bundle(path=path, **values)
    except (TypeError, AttributeError) as error:
        raise InputError(f"{file} has a value of the wrong type ({error}); {HINT}") from None
    # the digest guards against damage; this against a file whose digest was made anew by hand
    if bundle.contract_hash != body["contract"]:
        raise InputError(f"{file}: the contract hash is not that of its classes, geometry and thresholds; {HINT}")
    return bundle


def _hint_of_file(path: Path) -> str:
    """Return which folder to give in place of a file."""
    if (path.parent / "bundle.json").is_file():
        return f"give {path.parent}"
    if path.name.endswith(".tar.gz"):
        return f"unpack it with `tar -xzf {path}`, and give the folder bundle/ in it"
    return "give the folder that holds bundle.json, such as runs/NAME/production"


def _hint_of_missing(path: Path) -> str:
    """Return what makes the bundle that is not here: nothing says that it was ever exported."""
    if (path / "bundle" / "bundle.json").is_file():
        return f"give {path / 'bundle'}"
    if path.name == "production":
        return f"`python -m benchmarks {path.parent}` makes it"
    # a bundle lies in runs/NAME/ARCH
    run = next((folder for folder in path.parents[:2] if (folder / "run.json").is_file()), None)
    return f"`python -m export {run}` makes it" if run else "check the path, or make it with `python -m export RUN`"


def _hint_of_run(run: Path) -> str:
    """Return which bundles of a run to give in its place: production where there is one."""
    if (run / "production" / "bundle.json").is_file():
        return f"give {run / 'production'}"
    bundles = [str(file.parent) for file in sorted(run.glob("*/bundle/bundle.json"))]
    return f"give {' or '.join(bundles)}" if bundles else f"export it first with `python -m export {run}`"


def _check_plain_keys(file: Path, body: dict[str, Any]) -> None:
    """Raise InputError naming a key whose value is of another type than `Bundle` has it."""
    where = f"{file} is damaged, {HINT}"
    plain = from_json(_PlainKeys, known_keys(_PlainKeys, body), where)
    for precision, gate in plain.gates.items():
        if not isinstance(gate.get("passed"), bool):  # a text would count as passed
            raise InputError(f"{where}: gates.{precision}.passed is {gate.get('passed')!r}, expected: boolean")


def _read_parts(file: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Return the geometry, and the detector's configuration where there is one. Raises InputError naming the file."""
    try:
        parts: dict[str, Any] = {"geometry": Geometry.from_json(body["geometry"])}
        if "detector" in body:
            detector = DetectorConfig.from_json(body["detector"])
            # a bundle of an earlier version was measured without a smallest side
            parts["detector"] = detector if "min_side_px" in body["detector"] else replace(detector, min_side_px=0)
    except InputError as error:
        raise InputError(f"{file}: {error}; {HINT}") from None
    return parts
