"""Prove a bundle: read its files back in every available CPU backend, and check the golden frames and the val split."""

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
"""Backends that run on the exporting machine. Engines are proved on their own device."""
OTHER_ARITHMETIC = ("openvino",)
"""Backends that are measured on val as well. ONNX Runtime is not: it measured each file before it was written."""


def prove_and_seal(made: BundleBuilder) -> Bundle:
    """Prove each precision on each backend, drop those that fail, and write golden.npz, parity.json and bundle.json.

    Raises CheckError when fp32 fails: then there is no bundle.
    """
    folder = made.bundle.path
    made.golden.save(folder / golden_file.NAME)
    _bind(made)  # a backend opens only files that bundle.json binds
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
    """Check one precision on one backend, and add the checks to its gate."""
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
    """Return a backend's probabilities of rows of the pack, float32 (n, classes), run one at a time as in the car."""
    probs = np.empty((len(rows), len(made.bundle.classes)), np.float32)
    for i, row in enumerate(rows):
        opened.input_nhwc[0] = made.pack.images_nhwc[row]
        probs[i] = opened.infer(1)[0]
    return probs


def _drop(made: BundleBuilder, precision: str) -> None:
    """Remove a precision's files from the bundle. Raises CheckError when it is fp32."""
    if precision == "fp32":
        raise CheckError(f"{made.bundle.arch}: no bundle, fp32 failed ({first_failure(made.bundle.gates[precision])})")
    for ort_form in (False, True):
        (made.bundle.path / onnx_name(precision, ort_form=ort_form)).unlink(missing_ok=True)
    kept = {p: probs for p, probs in made.golden.probs.items() if p.removesuffix(golden_file.ORT_FORM) != precision}
    made.golden = replace(made.golden, probs=kept)
    made.golden.save(made.bundle.path / golden_file.NAME)
    _bind(made)


def _bind(made: BundleBuilder) -> None:
    """Hash the files in the bundle's folder, and write bundle.json, which binds them."""
    bundle = made.bundle
    files = {file for file in bundle.path.iterdir() if file.is_file()} - {bundle.file}
    made.bundle = bundle.with_files([file.name for file in files])
    made.bundle.save()
