"""Checkpoint in, verified bundle out: every rung of the ladder measured on the file that ships."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from export import calibration, golden_frames, parity, to_int8
from export.parity import Rung, breach, gate, measure, run_onnx, run_torch
from export.to_onnx import stamp, to_onnx
from inference import golden
from inference.contract import Bundle, onnx_name
from inference.errors import CheckError, InputError
from inference.files import sha256_of_file, sha256_of_json, write_json
from inference.pack import Pack
from inference.preprocess import Bytes, Geometry
from models.checkpoint import Checkpoint, Facts

TOOLS = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "timm", "numpy", "opencv-python-headless")
SPLITS = ("val", "test")


@dataclass
class Assembly:
    """A bundle in the making: what was measured so far."""

    bundle: Bundle
    images_nhwc: Bytes
    """All rows of the pack at the bundle's size."""
    rows: dict[str, NDArray[np.int64]]
    labels_n: NDArray[np.int64]
    reference: dict[str, parity.Probs]
    """Torch's probabilities of each split."""
    golden: golden.Golden
    rungs: list[Rung]
    latency_only: bool

    def climb(self, precision: str, files: dict[str, onnx.ModelProto], exact: str | None = None) -> None:
        """Measure files of one precision on every split and record the gate."""
        climbed = [
            measure(name, split, rows, probs, self.reference[split], self.labels_n[rows])
            for name, model in files.items()
            for split, rows in self.rows.items()
            for probs in [run_onnx(model, self.images_nhwc, rows, exact=name == exact)]
        ]
        self.rungs += climbed
        judged = gate(precision, [rung for rung in climbed if rung.split == "val"])
        if self.latency_only:
            judged = {"passed": True, "checks": [], "note": "latency only: not the size it was trained at"}
        self.bundle = replace(self.bundle, gates={**self.bundle.gates, precision: judged})

    def expect(self, precision: str, probs: parity.Probs) -> None:
        """Record what the golden regions must give in a precision."""
        self.golden = golden_frames.with_probs(self.golden, {**self.golden.probs, precision: probs})


def check_agreement(path: Path, facts: Facts, pack: Pack) -> None:
    """Raise InputError when a checkpoint and a pack are not of one training."""
    sides = [
        ("classes", list(facts.classes), list(pack.classes)),
        ("background class", facts.background, pack.background),
        ("geometry", facts.geometry.as_json(), pack.geometry.as_json()),
        ("pack fingerprint", facts.pack_fingerprint, pack.fingerprint),
    ]
    for what, trained, packed in sides:
        if trained != packed:
            raise InputError(
                f"{path}: its {what} is {trained}, that of the pack {pack.path} is {packed}: name the pack it was "
                "trained on with --pack, or train again"
            )


def begin(path: Path, checkpoint: Checkpoint, network: nn.Module, pack: Pack, folder: Path, size_px: int) -> Assembly:
    """Start the bundle of a checkpoint in `folder`: its contract, its rows, and torch's word on them."""
    facts = checkpoint.facts
    geometry = Geometry(size_px, facts.geometry.kernel)
    bundle = Bundle(
        path=folder,
        arch=facts.arch,
        synthetic=facts.synthetic,
        selectable=geometry == facts.geometry,
        classes=facts.classes,
        background=facts.background,
        geometry=geometry,
        temperature=facts.temperature,
        abstain_threshold=facts.abstain_threshold,
        provenance=_provenance(path, facts, pack),
        files={},
        gates={},
    )
    images = pack.images_nhwc if geometry == facts.geometry else _resized(pack.images_nhwc, geometry)
    rows = {split: pack.rows(split) for split in SPLITS}
    return Assembly(
        bundle=bundle,
        images_nhwc=images,
        rows=rows,
        labels_n=pack.labels_n,
        reference={split: run_torch(network, images, rows[split]) for split in SPLITS},
        golden=golden_frames.draw(np.asarray(images[golden_frames.golden_rows(pack)]), geometry),
        rungs=[],
        latency_only=geometry != facts.geometry,
    )


def _resized(images_nhwc: Bytes, geometry: Geometry) -> Bytes:
    size = (geometry.size_px, geometry.size_px)
    return np.stack([cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_LINEAR) for image in images_nhwc])


def _provenance(path: Path, facts: Facts, pack: Pack) -> dict[str, Any]:
    tools = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            tools[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "pack": {"path": str(pack.path), "fingerprint": pack.fingerprint},
        "checkpoint": {"sha256": sha256_of_file(path), "metrics": facts.metrics, "seed": facts.seed},
        "commit": facts.commit,
        "tools": tools,
    }


def add_fp32(made: Assembly, network: nn.Module) -> onnx.ModelProto:
    """Export fp32 and hold it against torch. Raises CheckError when it is not the network that was trained."""
    model = to_onnx(network, made.bundle.geometry.size_px)
    stamp(model, made.bundle, "fp32")
    made.climb("fp32", {"fp32": model})
    gates = made.bundle.gates["fp32"]
    if not gates["passed"]:
        raise CheckError(f"{made.bundle.arch}: no bundle, fp32 is not the network that was trained ({breach(gates)})")
    regions = np.arange(len(made.golden.geometry_rhwc))
    made.expect("fp32", run_torch(network, made.golden.geometry_rhwc, regions))
    _write(made, "fp32", {onnx_name("fp32"): model})
    return model


def add_int8(made: Assembly, fp32: onnx.ModelProto, pack: Pack) -> None:
    """Calibrate, quantise in both forms and gate them; a failed precision leaves no file."""
    rows = calibration.calibration_rows(pack)
    plan = to_int8.plan(fp32)
    histograms = calibration.observe(calibration.Observer(fp32, plan.tensors), made.images_nhwc, rows)
    scores: dict[str, float] = {}
    forms: dict[str, dict[str, onnx.ModelProto]] = {}
    for method in calibration.METHODS:
        signed = to_int8.quantise(fp32, plan, calibration.ranges(histograms, method))
        stamp(signed, made.bundle, "int8")
        forms[method] = {"int8": signed, "int8 ort": to_int8.ort_form(signed)}
        # the worse of both forms: the unsigned one has room above a ReLU where the signed one clips
        scores[method] = max(
            float(np.abs(run_onnx(form, made.images_nhwc, made.rows["val"]) - made.reference["val"]).max(1).mean())
            for form in forms[method].values()
        )
    best = min(scores, key=lambda method: scores[method])
    made.climb("int8", forms[best], exact="int8")
    facts = {"method": best, "scores_mean_dprob": scores, "calibration_rows": len(rows), "kept_float": []}
    facts["calibration"] = sha256_of_json([pack.fingerprint, rows.tolist(), best])
    made.bundle.gates["int8"].update(facts)
    if made.bundle.gates["int8"]["passed"]:
        regions = np.arange(len(made.golden.geometry_rhwc))
        made.expect("int8", run_onnx(forms[best]["int8"], made.golden.geometry_rhwc, regions, exact=True))
        names = {"int8": onnx_name("int8"), "int8 ort": onnx_name("int8", ort_form=True)}
        _write(made, "int8", {names[form]: model for form, model in forms[best].items()})


def _write(made: Assembly, precision: str, models: dict[str, onnx.ModelProto]) -> None:
    for name, model in models.items():
        (made.bundle.path / name).write_bytes(model.SerializeToString(deterministic=True))


def finish(made: Assembly) -> Bundle:
    """Write parity.json, golden.npz and bundle.json, and prove the golden frames on the files as they are read back."""
    from inference.backends import open_backend

    folder = made.bundle.path
    write_json(folder / "parity.json", {"schema": 1, "rungs": [rung.as_json() for rung in made.rungs]})
    made.golden.save(folder / golden.NAME)
    bundle = made.bundle.with_files([file.name for file in folder.iterdir() if file.is_file()])
    bundle.save()
    for precision in bundle.precisions:
        opened = open_backend("ort", bundle, precision, batch=2)
        rows = golden.check(bundle, "ort", opened, precision)
        opened.close()
        for row in rows:
            if not row.passed:
                raise CheckError(
                    f"{bundle.arch}: no bundle, the golden frames fail in {precision} on ort "
                    f"({row.check} is {row.value:.4g}, the limit is {row.limit:g})"
                )
    return bundle
