"""The production folder: the chosen bundle with one precision and one backend, and the reasons for the choice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from core.bundle.contract import HINT, PRECISIONS, Bundle, onnx_name, open_bundle
from core.bundle.engine_manifest import (
    FOLDER,
    EngineManifest,
    check_engine,
    detector_engines,
    load_manifest,
    manifest_file,
)
from core.bundle.production_choice import ProductionChoice
from core.errors import CheckError, InputError
from core.files import replacing_folder, write_text


def write_production(
    path: Path, source: Bundle, choice: ProductionChoice, measured: str, documents: dict[str, str]
) -> Bundle:
    """Write the folder, whole or not at all, and return the bundle in it. The hash of every copied file is checked.

    measured: the name of the file that was timed; an engine is copied only if it is this file.
    documents: {file name: text} of the documents that explain the choice.
    """
    with replacing_folder(path) as folder:
        kept = files_of_precision(source, choice.precision)
        for name in kept:
            shutil.copyfile(source.check_file(name), folder / name)
        if measured not in source.files:  # an engine: bundle.json does not bind it, its own manifest does
            target = copy_engine(source, source.path / FOLDER / measured, folder / FOLDER).target
            copy_detector_engines(source, target, folder / FOLDER)
        for name, text in documents.items():
            write_text(folder / name, text)
        # the gates of what is not shipped would say nothing of these files
        gates = {choice.precision: source.gates[choice.precision]}
        shipped = replace(source, path=folder, gates=gates, choice=choice).with_files([*kept, *documents])
        # the choice changes no class, geometry or threshold; the engines and the runner check this hash
        if shipped.contract_hash != source.contract_hash:
            raise CheckError(f"the contract of {source.path} changed on the way to {path}")
        shipped.save()
    return open_bundle(path)


def files_of_precision(bundle: Bundle, precision: str) -> list[str]:
    """Return the files of a bundle that one precision needs: all but the models of the other precisions."""
    # golden frames, detector and parity serve every precision: only model files are left out
    kept = set(bundle.files)
    for other in PRECISIONS:
        if other != precision:
            kept -= {onnx_name(other), onnx_name(other, unsigned=True)}
    return sorted(kept)


def copy_detector_engines(source: Bundle, target: str, folder: Path) -> None:
    """Copy what the detector in front was proved with on the device; without one it runs on the CPU there too."""
    for engine in detector_engines(source):
        try:
            manifest = load_manifest(engine, HINT)
        except InputError:  # it cannot have run; `verify` names it
            continue
        if (manifest.target, manifest.state) == (target, "proved"):
            copy_engine(source, engine, folder)


def copy_engine(source: Bundle, engine: Path, folder: Path) -> EngineManifest:
    """Copy an engine with its manifest, and return that.

    Raises CheckError when it was not proved, InputError when it is damaged.
    """
    manifest = check_engine(source, engine)
    if manifest.state != "proved":
        raise CheckError(f"{engine} is not proved: run `python -m inference verify {source.path}` on the device")
    folder.mkdir(exist_ok=True)
    for part in (engine, manifest_file(engine)):
        shutil.copyfile(part, folder / part.name)
    return manifest
