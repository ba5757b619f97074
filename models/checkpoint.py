"""The checkpoint: one safetensors file with the weights, and everything else about the network in its metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

import models
from core.errors import InputError
from core.files import replacing
from core.geometry.preprocess import Geometry
from models.deployed import DeployedNetwork

SCHEMA = 1
METADATA_KEY = "rearguard"
HINT = "train the run again with `python -m training train`"


@dataclass(frozen=True)
class CheckpointMetadata:
    """Everything in a checkpoint except its weights."""

    arch: str
    classes: tuple[str, ...]
    background: str | None
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: dict[str, Any]
    """Every field of the recipe."""
    metrics: dict[str, Any]
    """The metrics on val: at least `epoch`, and `val` with its `accuracy`."""
    temperature: float
    """The divisor of the logits, fitted on val."""
    abstain_threshold: float
    pack_path: str
    pack_fingerprint: str
    synthetic: bool
    seed: int
    commit: str

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object in the metadata."""
        return {"schema": SCHEMA, **asdict(self), "geometry": self.geometry.as_json()}


@dataclass(frozen=True)
class Checkpoint:
    """The metadata and the weights of one trained network."""

    metadata: CheckpointMetadata
    weights: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        from safetensors.torch import save_file

        weights = {name: value.detach().cpu().contiguous() for name, value in self.weights.items()}
        metadata = {METADATA_KEY: json.dumps(self.metadata.as_json(), sort_keys=True)}
        with replacing(path) as temporary:
            save_file(weights, str(temporary), metadata=metadata)

    def build_network(self) -> DeployedNetwork:
        """Rebuild the network with these weights, in eval mode. Raises InputError when they do not fit."""
        metadata = self.metadata
        network = models.build(metadata.arch, len(metadata.classes), size_px=metadata.geometry.size_px)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"the checkpoint's weights are not a {metadata.arch} ({reason}); {HINT}") from None
        return DeployedNetwork(network, metadata.mean, metadata.std, metadata.temperature).eval()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file. Raises InputError naming the file when it is missing, damaged or of another schema."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path} does not exist; {HINT}")
    try:
        with safe_open(str(path), framework="pt") as file:
            body = json.loads((file.metadata() or {})[METADATA_KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if body.pop("schema") != SCHEMA:
            raise InputError(f"{path} is of another checkpoint schema; {HINT}")
        body["geometry"] = Geometry.from_json(body["geometry"])
        body |= {name: tuple(body[name]) for name in ("classes", "mean", "std")}
        metadata = CheckpointMetadata(**{item.name: body.pop(item.name) for item in fields(CheckpointMetadata)})
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a checkpoint of ours ({str(error)[:120]}); {HINT}") from None
    if body:
        raise InputError(f"{path} has the unknown keys {', '.join(sorted(body))}; {HINT}")
    return Checkpoint(metadata, weights)
