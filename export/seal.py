"""Prove a bundle: run the golden frames on its files on every CPU backend, and val where arithmetic differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.bundle import golden_file
from core.bundle.contract import UNSIGNED, Bundle, Probs, onnx_name
from core.bundle.parity_file import write_parity
from core.errors import CheckError
from export.builder import BundleBuilder
from export.verify.parity import first_failure, make_check, make_gate
from inference import backends
from inference.backends import Backend
from inference.proof import golden_run

BACKENDS = ("ort", "openvino")
"""Backends that run on the exporting machine. Engines are proved on their own device."""
OTHER_ARITHMETIC = ("openvino",)
"""Backends that are measured on val as well. ONNX Runtime is not: it measured each file before it was written."""


def prove_and_seal(builder: BundleBuilder) -> Bundle:
    """Prove each precision on each backend, drop those that fail, and write golden.npz, parity.json and bundle.json.

    Raises CheckError when fp32 fails: then there is no bundle.
    """
    # a backend opens only what bundle.json binds, so the files are bound before they are proved
    folder = builder.bundle.path
    builder.golden.save(folder / golden_file.NAME)
    builder.bind()
    for name in BACKENDS:
        module = backends.find(name)
        if not backends.availability(name).available:
            continue
        # a list, since a precision that fails leaves the bundle meanwhile
        for precision in [p for p in builder.bundle.precisions if p in module.PRECISIONS]:
            with backends.open_backend(name, builder.bundle, precision) as opened:
                _prove_precision(builder, name, opened, precision)
            if not builder.bundle.gates[precision]["passed"]:
                _drop(builder, precision)
    # parity.json is bound too, and the gates now hold the checks of each backend
    write_parity(folder, builder.results)
    builder.bind()
    return builder.bundle


def _prove_precision(builder: BundleBuilder, name: str, opened: Backend, precision: str) -> None:
    """Check one precision on one backend, and add the checks to its gate."""
    checks = []
    if name in OTHER_ARITHMETIC and not builder.latency_only:
        result = builder.evaluate(f"{precision} {name}", lambda rows: predict_rows(opened, builder, rows), ["val"])
        checks += make_gate(precision, [result])["checks"]
    for row in golden_run.check_golden(builder.bundle, name, opened, precision):
        checks.append(make_check(f"{precision} {name}: golden frames, {row.check}", row.value, row.limit))
    gate = builder.bundle.gates[precision]
    passed = gate["passed"] and all(check["passed"] for check in checks)
    builder.set_gate(precision, {**gate, "passed": passed, "checks": [*gate["checks"], *checks]})


def predict_rows(opened: Backend, builder: BundleBuilder, rows: np.ndarray) -> Probs:
    """Return a backend's probabilities of rows of the pack, float32 (n, classes), run one at a time."""
    probs = np.empty((len(rows), len(builder.bundle.classes)), np.float32)
    for i, row in enumerate(rows):
        opened.input_nhwc[0] = builder.pack.images_nhwc[row]
        probs[i] = opened.infer(1)[0]
    return probs


def _drop(builder: BundleBuilder, precision: str) -> None:
    """Remove a precision's files from the bundle. Raises CheckError when it is fp32."""
    if precision == "fp32":
        raise CheckError(
            f"{builder.bundle.arch}: no bundle, fp32 failed ({first_failure(builder.bundle.gates[precision])})"
        )
    for unsigned in (False, True):
        (builder.bundle.path / onnx_name(precision, unsigned=unsigned)).unlink(missing_ok=True)
    kept = {}
    for form, probs in builder.golden.probs.items():
        if form.removesuffix(UNSIGNED) != precision:
            kept[form] = probs
    builder.golden = replace(builder.golden, probs=kept)
    builder.golden.save(builder.bundle.path / golden_file.NAME)
    builder.bind()
