"""The folder of a run, runs/NAME: its run.json, pack, checkpoints and bundles."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data.pack import Pack, open_pack
from core.errors import InputError
from core.files import put_back_inside, read_object

SCHEMA = 2
READABLE = (1, SCHEMA)
"""The schemas that are read. Schema 1 differs only in the recipe, which has a dropout key for each architecture."""


@dataclass(frozen=True)
class Run:
    """An existing run. run.json holds at least {"schema", "pack": {"path", "fingerprint"}}."""

    path: Path
    metadata: dict[str, Any]

    @property
    def pack_path(self) -> Path:
        """The pack's folder; a relative path in run.json is relative to the run."""
        return self.path / str(self.metadata["pack"]["path"])

    def open_pack(self, override: Path | None = None) -> Pack:
        """Open the pack this run was trained on. Raises InputError when `override` is another one."""
        pack = open_pack(override or self.pack_path)
        if pack.fingerprint != self.metadata["pack"]["fingerprint"]:
            raise InputError(f"{pack.path} is not the pack that {self.path} was trained on: its fingerprint differs")
        return pack

    def checkpoints(self) -> dict[str, Path]:
        """Return {architecture: best.safetensors}, by folder name; `timm/x` lives in the folder `timm_x`."""
        return {file.parent.name: file for file in sorted(self.path.glob("*/best.safetensors"))}

    def unfinished(self) -> list[str]:
        """Return the folder names of the architectures without metrics.json, the file that training writes last."""
        # run.json names also those that have no checkpoint yet
        planned = map(folder_name, self.metadata.get("models", ()))
        names = dict.fromkeys([*planned, *self.checkpoints()])
        return [name for name in names if not (self.path / name / "metrics.json").is_file()]

    def bundles(self) -> dict[str, Path]:
        """Return {folder name: bundle folder} of the exported architectures."""
        return {file.parent.parent.name: file.parent for file in sorted(self.path.glob("*/bundle/bundle.json"))}

    def production(self) -> Path | None:
        """Return the folder of the production bundle; None before the benchmark chose one."""
        folder = self.path / "production"
        return folder if (folder / "bundle.json").is_file() else None


def folder_name(arch: str) -> str:
    """Return the folder of an architecture inside a run: its name with `/` as `_`."""
    return arch.replace("/", "_")


def open_run(path: Path) -> Run:
    """Open a run folder. Raises InputError with the nearest names when there is none."""
    if not (path / "run.json").is_file():
        siblings = sorted(p.parent.name for p in path.parent.glob("*/run.json"))
        # a cut-off of 0: names are always told, however far they are from the mistyped one
        near = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.0)
        runs = f"the runs in {path.parent} are {', '.join(near)}" if near else f"{path.parent} holds no run yet"
        raise InputError(f"{path} is not a run (it has no run.json): {runs}")
    put_back_inside(path)
    file = path / "run.json"
    metadata = read_object(file, "train the run again")
    if metadata.get("schema") not in READABLE:
        raise InputError(
            f"{file} has schema {metadata.get('schema')!r}, this version reads {READABLE}: train the run again"
        )
    pack = metadata.get("pack")
    if not isinstance(pack, dict) or not {"path", "fingerprint"} <= set(pack):
        raise InputError(f"{file} names no pack with its path and fingerprint: train the run again")
    names = metadata.get("models", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{file}: models is not a list of architectures: train the run again")
    return Run(path, metadata)
