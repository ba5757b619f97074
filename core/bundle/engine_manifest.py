"""The engine manifest: a file beside an engine with its source, its target device, and whether it was proved there.

An engine is native code. It is deserialized only after its manifest was read and agrees with everything else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from glob import escape
from pathlib import Path
from typing import Any

from core.bundle.contract import DETECTOR, Bundle, onnx_name
from core.errors import InputError
from core.files import read_sealed, sealed, sha256_of_file, write_json

SCHEMA = 1
FOLDER = "engines"
STATES = ("built", "proved")
OF_DETECTOR = "detector"
"""Stands for the precision in the manifest of a detector's engine: its ONNX file alone decides that."""


@dataclass(frozen=True)
class EngineSource:
    """The ONNX file that an engine is built from, and what else its manifest must agree with."""

    onnx: Path
    sha256: str
    stem: str
    """The beginning of the engine's file name."""
    precision: str
    contract: str
    build_command: str
    """The command that builds its engines, without the target and the batch sizes."""

    @property
    def folder(self) -> Path:
        """The folder of its engines, beside the file."""
        return self.onnx.parent / FOLDER


def source_of(bundle: Bundle, precision: str) -> EngineSource:
    """Return the source of the engines of a bundle's precision."""
    name = onnx_name(precision)
    sha256 = bundle.files.get(name, {}).get("sha256", "not bound")
    command = f"python -m inference build {bundle.path} --backend trt --precision {precision}"
    return EngineSource(bundle.path / name, sha256, precision, precision, bundle.contract_hash, command)


def detector_source(onnx: Path, sha256: str) -> EngineSource:
    """Return the source of the engines of a detector's file, in a bundle or not: no contract binds it."""
    command = f"python -m inference build {onnx} --backend trt"
    return EngineSource(onnx, sha256, onnx.stem, OF_DETECTOR, "", command)


@dataclass(frozen=True)
class EngineManifest:
    """The content of ENGINE.json, whose last key is `digest`, the sha256 of the others in canonical form."""

    engine: str
    """File name of the engine."""
    engine_sha256: str
    engine_bytes: int
    onnx: str
    """File name of the ONNX file it was built from."""
    onnx_sha256: str
    contract: str
    """The contract hash of the bundle; empty for a detector, which has none."""
    precision: str
    """fp32, fp16 or int8; OF_DETECTOR for a detector."""
    runtime: str
    """tensorrt or tensorrt_rtx."""
    version: str
    target: str
    """smNN, the compute capability it was built for."""
    built_on: str
    """The device's name, or that there was none."""
    cuda: str
    """CUDA runtime and driver version, empty where there is no device."""
    flags: dict[str, Any]
    batches: tuple[int, ...]
    calibration: str | None
    """The hash of the calibration rows of an int8 file."""
    build_seconds: float
    state: str = "built"
    proved_on: dict[str, Any] | None = None
    """Device, driver, runtime version and date of the passed golden check; it can be chosen for that device alone.

    `verify` and the benchmark write it; see `Backend.mark_proved`.
    """

    def __post_init__(self) -> None:
        # the type of a field is its text here, since annotations are not evaluated
        for name in [item.name for item in fields(self) if item.type == "str"]:
            # JSON may hold anything here, and these texts become file names and sentences
            if not isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} is {value!r}, not a text")
        if self.proved_on is not None and not isinstance(self.proved_on["name"], str):
            raise TypeError(f"proved_on is {self.proved_on!r}")
        if self.state not in STATES or (self.state == "proved") != (self.proved_on is not None):
            raise InputError(f"{self.engine}: state is {self.state!r} with proved_on {self.proved_on!r}")
        # a manifest from elsewhere must not lead to a file outside its folder
        if Path(self.engine).name != self.engine or Path(self.onnx).name != self.onnx:
            raise InputError(f"the manifest names the files {self.engine!r} and {self.onnx!r}: a plain name is needed")
        if not self.batches or any(not isinstance(n, int) or n < 1 for n in self.batches):
            raise InputError(f"{self.engine}: batches is {self.batches!r}, give whole numbers from 1")

    def save(self, folder: Path) -> None:
        """Write the manifest beside its engine, whole or not at all."""
        body = {"schema": SCHEMA, **asdict(self)}
        write_json(manifest_file(folder / self.engine), sealed(body))

    def proved(self, device: dict[str, Any]) -> EngineManifest:
        """Return the manifest of an engine whose golden frames passed on `device`."""
        return replace(self, state="proved", proved_on=device)


def manifest_file(engine: Path) -> Path:
    """Return the path of an engine's manifest."""
    return engine.with_name(f"{engine.name}.json")


def engine_name(stem: str, runtime: str, target: str, batches: tuple[int, ...]) -> str:
    """Return the file name of an engine: what decides its bytes is part of it, the batch sizes too."""
    return f"{stem}.{runtime}.{target}.b{'-'.join(map(str, batches))}.engine"


def engines_of(bundle: Bundle) -> list[Path]:
    """Return every engine of a bundle, also one whose file is gone and whose manifest is left."""
    folder = bundle.path / FOLDER
    described = [file.with_suffix("") for file in folder.glob("*.engine.json")]
    return sorted({*folder.glob("*.engine"), *described})


def detector_engines(bundle: Bundle) -> list[Path]:
    """Return the engines of a bundle's detector."""
    return [engine for engine in engines_of(bundle) if engine.name.startswith(f"{Path(DETECTOR).stem}.")]


def find_engine(source: EngineSource, runtime: str, sm: int) -> Path | None:
    """Return the engine of a runtime for one compute capability, None without one. A build leaves only one."""
    found = sorted(source.folder.glob(f"{escape(source.stem)}.{runtime}.sm{sm}.b*.engine"))
    # sorted, so that of several the same one is taken each time
    return found[-1] if found else None


def build_hint(source: EngineSource, sm: int | str, batches: tuple[int, ...] = ()) -> str:
    """Return the command that builds an engine, as the hint of an error."""
    # a detector sees one picture at a time
    several = batches and source.precision != OF_DETECTOR
    asked = f" --backend-option batches={','.join(map(str, batches))}" if several else ""
    return f"build it: {source.build_command} --sm {sm}{asked}"


def load_manifest(engine: Path, hint: str) -> EngineManifest:
    """Read an engine's manifest. Raises InputError when there is none, or it was changed after it was written."""
    file = manifest_file(engine)
    if engine.is_file() and not file.is_file():
        raise InputError(f"{engine} has no manifest and is not opened (it runs native code): {hint}")
    names = [item.name for item in fields(EngineManifest)]
    body = read_sealed(file, names, SCHEMA, hint)
    try:
        return EngineManifest(**{name: body[name] for name in names} | {"batches": tuple(body["batches"])})
    except (TypeError, KeyError) as error:
        raise InputError(f"{file} has a value of the wrong type ({error}): {hint}") from None


def check_engine(bundle: Bundle, engine: Path) -> EngineManifest:
    """Return the manifest of an engine that belongs to this bundle, its bytes hashed, whether or not it can run here.

    Raises InputError that names both sides of what does not agree, and the build command. Nothing is executed.
    """
    manifest = load_manifest(engine, f"build it: python -m inference build {bundle.path} --backend trt")
    if manifest.precision == OF_DETECTOR:
        sha256 = bundle.files.get(DETECTOR, {}).get("sha256", "not bound")
        return _check_source(detector_source(bundle.path / DETECTOR, sha256), engine, manifest)
    return _check_source(source_of(bundle, manifest.precision), engine, manifest)


def _check_source(source: EngineSource, engine: Path, manifest: EngineManifest) -> EngineManifest:
    # with its own batch sizes: an engine that is built as the hint says serves what this one served
    rebuild_hint = build_hint(source, manifest.target.removeprefix("sm"), manifest.batches)
    name = engine_name(source.stem, manifest.runtime, manifest.target, manifest.batches)
    # the manifest is sealed, but may have been copied from another bundle or beside another engine
    _compare(
        engine,
        rebuild_hint,
        ("file name", manifest.engine, engine.name),
        ("file name", name, engine.name),
        ("precision", manifest.precision, source.precision),
        ("contract", manifest.contract, source.contract),
        ("ONNX file", manifest.onnx, source.onnx.name),
        ("ONNX sha256", manifest.onnx_sha256, source.sha256),
    )
    # the size first, because hashing reads the whole engine
    if not engine.is_file() or engine.stat().st_size != manifest.engine_bytes:
        raise InputError(
            f"{engine} is not the file its manifest describes (missing or of another size): {rebuild_hint}"
        )
    if sha256_of_file(engine) != manifest.engine_sha256:
        raise InputError(f"{engine} is not the file its manifest describes (its sha256 differs): {rebuild_hint}")
    return manifest


def check_engine_fits(source: EngineSource, engine: Path, *, runtime: str, version: str, sm: int) -> EngineManifest:
    """Return the manifest of an engine that belongs to this source and fits this runtime and device.

    Raises InputError that names both sides of what does not agree, and the build command. Nothing is executed.
    """
    manifest = _check_source(source, engine, load_manifest(engine, build_hint(source, sm)))
    _compare(
        engine,
        build_hint(source, sm, manifest.batches),
        ("runtime", manifest.runtime, runtime),
        ("runtime version", manifest.version, version),
        ("compute capability", manifest.target, f"sm{sm}"),
    )
    return manifest


def _compare(engine: Path, rebuild_hint: str, *sides: tuple[str, object, object]) -> None:
    """Raise InputError at the first (what, as built, as wanted here) that differs."""
    for what, built, wanted in sides:
        if built != wanted:
            raise InputError(f"{engine}: its {what} is {built}, here it is {wanted}; {rebuild_hint}")
