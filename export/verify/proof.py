"""Prove a bundle on the files as they are read back: every available CPU backend, val split and golden frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.bundle import golden_file
from core.bundle.contract import Bundle, onnx_name
from core.errors import CheckError
from core.files import write_json
from export.verify.bundle_builder import BundleBuilder
from export.verify.parity import Probs, check, first_failure, gate
from inference import backends
from inference.backends import Backend
from inference.proof import golden_run

BACKENDS = ("ort", "openvino")
"""What can run a bundle wherever it is exported; engines are proved on their device."""
OTHER_ARITHMETIC = ("openvino",)
"""Backends that compute otherwise than ONNX Runtime, in which the files were evaluated before they were written."""


def prove_and_seal(made: BundleBuilder) -> Bundle:
    """Write parity.json, golden.npz and bundle.json, each precision proved or dropped.

    Raises CheckError when fp32 fails: then there is no bundle.
    """
    folder = made.bundle.path
    made.golden.save(folder / golden_file.NAME)
    _bind(made)
    for name in BACKENDS:
        module = backends.find(name)
        if not backends.availability(name).available:
            continue
        for precision in [p for p in made.bundle.precisions if p in module.PRECISIONS]:
            with backends.open_backend(name, made.bundle, precision) as opened:
                _prove(made, name, opened, precision)
            if not made.bundle.gates[precision]["passed"]:
                _drop(made, precision)
    write_json(folder / "parity.json", {"schema": 1, "rungs": [result.as_json() for result in made.results]})
    _bind(made)
    return made.bundle


def _prove(made: BundleBuilder, name: str, opened: Backend, precision: str) -> None:
    """Add the checks of one precision on one backend to its gate."""
    checks = []
    if name in OTHER_ARITHMETIC and not made.latency_only:
        result = made.evaluate(f"{precision} {name}", lambda rows: predict_rows(opened, made, rows), ["val"])
        checks += gate(precision, [result])["checks"]
    for row in golden_run.check(made.bundle, name, opened, precision):
        checks.append(check(f"{precision} {name}: golden frames, {row.check}", row.value, row.limit))
    known = made.bundle.gates[precision]
    passed = known["passed"] and all(one["passed"] for one in checks)
    made.record(precision, {**known, "passed": passed, "checks": [*known["checks"], *checks]})


def predict_rows(opened: Backend, made: BundleBuilder, rows: np.ndarray) -> Probs:
    """Return a backend's probabilities of rows of the pack, one at a time as in the car, float32 (n, classes)."""
    probs = np.empty((len(rows), len(made.bundle.classes)), np.float32)
    for i, row in enumerate(rows):
        opened.input_nhwc[0] = made.pack.images_nhwc[row]
        probs[i] = opened.infer(1)[0]
    return probs


def _drop(made: BundleBuilder, precision: str) -> None:
    """Take a precision's files out of the bundle. Raises CheckError when it is fp32."""
    if precision == "fp32":
        raise CheckError(f"{made.bundle.arch}: no bundle, fp32 failed ({first_failure(made.bundle.gates[precision])})")
    for ort_form in (False, True):
        (made.bundle.path / onnx_name(precision, ort_form=ort_form)).unlink(missing_ok=True)
    kept = {p: probs for p, probs in made.golden.probs.items() if p.removesuffix(golden_file.ORT_FORM) != precision}
    made.golden = replace(made.golden, probs=kept)
    made.golden.save(made.bundle.path / golden_file.NAME)
    _bind(made)


def _bind(made: BundleBuilder) -> None:
    """Hash the files that are there and write bundle.json."""
    bundle = made.bundle
    made.bundle = bundle.with_files([f.name for f in bundle.path.iterdir() if f.is_file() and f != bundle.file])
    made.bundle.save()
