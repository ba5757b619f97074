"""Find an int8 file that passes its gate: by a calibration method, else equalization, else some layers in float."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from core.bundle.contract import TOLERANCE, UNSIGNED_INT8, Probs
from core.geometry.frame import Bytes
from export.graph.nodes import Graph
from export.precision import int8
from export.quantize import calibration
from export.quantize.equalize import equalize
from export.verify.parity import compare_with_torch, first_failure, make_check, make_gate, run_onnx

log = logging.getLogger(__name__)

EQUALIZING_ROWS = 64
SENSITIVITY_ROWS = 64
"""Rows of val that rank the layers; every decision is then made on all of val."""
OTHER_RUNTIMES = 2
"""The golden tolerance is divided by this here: the rest is for runtimes that round elsewhere than ONNX Runtime."""
Forms = dict[str, onnx.ModelProto]
"""The two forms of int8: {"int8": the signed one, UNSIGNED_INT8: the one derived from it}."""


@dataclass(frozen=True)
class EvalSet:
    """The rows, labels and reference probabilities that a file is gated with."""

    images_nhwc: Bytes
    calibration_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]
    reference: Probs
    """Torch's probabilities of the val rows, float32 (n, classes)."""
    labels: NDArray[np.int64]
    """The labels of the val rows."""
    golden_rhwc: Bytes | None = None
    """The golden regions, on which a runtime must give what the file says, within the tolerance of int8."""

    def distance(self, model: onnx.ModelProto, count: int | None = None) -> float:
        """Return the mean of max |dprob| to torch over the val rows, or over `count` of them, evenly spread."""
        total = len(self.val_rows)
        few = np.linspace(0, total - 1, min(count or total, total)).astype(int)
        probs = run_onnx(model, self.images_nhwc, self.val_rows[few])
        # NaN counts as the largest difference there is, so that a file that gives it is never the nearest
        dprobs = np.nan_to_num(np.abs(probs - self.reference[few]), nan=1.0)
        return float(dprobs.max(1).mean())

    def make_gate(self, forms: Forms) -> dict[str, Any]:
        """Return the gate of both forms on val, with a check of how much fusing layers changes the golden answers.

        A runtime that fuses layers rounds in other places than the file says. When that alone moves a probability by
        more than the tolerance, the answer depends on single roundings, and the self-test would refuse it.
        """
        results = []
        for name, model in forms.items():
            # exact: TensorRT, for which the signed form is, computes the file as it is written
            probs = run_onnx(model, self.images_nhwc, self.val_rows, exact=name == "int8")
            results.append(compare_with_torch(name, "val", self.val_rows, probs, self.reference, self.labels))
        gate = make_gate("int8", results)
        if self.golden_rhwc is not None:
            regions = np.arange(len(self.golden_rhwc))
            fused = run_onnx(forms[UNSIGNED_INT8], self.golden_rhwc, regions)
            written = run_onnx(forms[UNSIGNED_INT8], self.golden_rhwc, regions, exact=True)
            moved = float(np.abs(fused - written).max())
            name = f"{UNSIGNED_INT8}: golden frames, fused against as written"
            gate["checks"].append(make_check(name, moved, TOLERANCE["int8"] / OTHER_RUNTIMES))
            gate["passed"] = all(check["passed"] for check in gate["checks"])
        return gate


@dataclass(frozen=True)
class SearchStep:
    """One attempt of the search."""

    tried: str
    mean_dprob: dict[str, float]
    """{calibration method: distance of the worse form}; the method nearest to torch is gated."""
    outcome: str
    """"passed", or the sentence of the first check that failed."""

    def __str__(self) -> str:
        scores = ", ".join(f"{method} {score:.1e}" for method, score in self.mean_dprob.items())
        return f"int8 {self.tried}: {self.outcome} (mean |dprob|: {scores})"


@dataclass(frozen=True)
class SearchResult:
    """The int8 files of one attempt, and how they were made."""

    forms: Forms
    passed: bool
    distance: float
    """Mean of max |dprob| to torch, of the worse form."""
    method: str
    kept_float: list[str]
    equalized: list[str]
    steps: list[SearchStep]
    """All attempts of the search, in order."""

    def facts(self) -> dict[str, Any]:
        """Return the search's part of the int8 gate in bundle.json."""
        return {
            "method": self.method,
            "kept_float": self.kept_float,
            "equalised": self.equalized,  # spelled as in the bundles that there are
            "search": [asdict(step) for step in self.steps],
        }


def search(fp32: onnx.ModelProto, data: EvalSet, *, repair: bool = True) -> SearchResult:
    """Return the first int8 file that passes: of the network as it is, of the equalized one, or with layers in float.

    Layers go back to float in whichever of the two networks is nearer to torch. When nothing passes, the result is the
    nearest attempt. repair: False stops after the network as it is.
    """
    # from the cheapest repair to the dearest: a method costs nothing in the car, a layer in float costs time there
    plain = _Quantizer(fp32, data, [], [])
    found = plain.try_methods()
    if found.passed or not repair:
        return found
    rows = data.calibration_rows[:: max(1, len(data.calibration_rows) // EQUALIZING_ROWS)]
    balanced, names = equalize(fp32, data.images_nhwc, rows)
    if names:
        other = _Quantizer(balanced, data, plain.steps, names)
        equalized = other.try_methods()
        if equalized.passed:
            return equalized
        if equalized.distance < found.distance:
            return other.fall_back_to_float() or equalized
    return plain.fall_back_to_float() or found


class _Quantizer:
    """Quantizes one fp32 graph in different ways and records what was tried."""

    def __init__(self, fp32: onnx.ModelProto, data: EvalSet, steps: list[SearchStep], equalized: list[str]) -> None:
        self.fp32 = fp32
        self.data = data
        self.steps = steps
        self.equalized = equalized
        # observed once: every method and every choice of layers in float takes its ranges from the same histograms
        observer = calibration.Observer(fp32, int8.plan_quantization(fp32).tensors)
        self.histograms = calibration.build_histograms(observer, data.images_nhwc, data.calibration_rows)

    def quantize(self, method: str, kept: Iterable[str] = ()) -> Forms:
        plan = int8.plan_quantization(self.fp32, kept)
        amax = calibration.choose_ranges({name: self.histograms[name] for name in plan.tensors}, method)
        signed = int8.quantize(self.fp32, plan, amax)
        return {"int8": signed, UNSIGNED_INT8: int8.to_unsigned(signed)}

    def try_methods(self, kept: Sequence[str] = ()) -> SearchResult:
        """Quantize by every calibration method, and gate the one whose worse form is nearest to torch."""
        # the forms differ: behind a ReLU the unsigned one has room where the signed one clips
        made = {method: self.quantize(method, kept) for method in calibration.METHODS}
        scores = {}
        for method, forms in made.items():
            scores[method] = max(self.data.distance(form) for form in forms.values())
        best = min(scores, key=lambda method: scores[method])
        gate = self.data.make_gate(made[best])
        tried = best + (f", {len(self.equalized)} layers equalised" if self.equalized else "")
        tried += f", {len(kept)} layers in float" if kept else ""
        self.steps.append(SearchStep(tried, scores, "passed" if gate["passed"] else first_failure(gate)))
        log.info(str(self.steps[-1]))
        return SearchResult(made[best], gate["passed"], scores[best], best, list(kept), self.equalized, self.steps)

    def fall_back_to_float(self) -> SearchResult | None:
        """Return the file with the fewest layers in float that passes, the most sensitive layers first.

        Returns None when half of the layers are not enough: with more than half in float, int8 is no faster.
        """
        ranked = self._rank()
        # a bisection: `failing` layers are known to be too few, `passing` to be enough (or more than is allowed)
        failing = 0
        passing = len(ranked) // 2 + 1
        best = None
        while passing - failing > 1:
            count = (failing + passing) // 2
            if best is None:  # nearly always one or two layers are enough: try 1, 2, 4, ... before the middle
                count = min(count, max(1, 2 * failing))
            # every method again: the one that is best in int8 need not be best with layers in float
            found = self.try_methods(ranked[:count])
            if found.passed:
                passing, best = count, found
            else:
                failing = count
        return best

    def _rank(self) -> list[str]:
        """Return the names of the nodes that can be quantized, the most sensitive first.

        Each is quantized alone, all others in float; the distance to torch is its sensitivity.
        """
        graph = Graph(self.fp32)
        everything = [n.name for n in graph.nodes if n.op_type in int8.QUANTIZED or graph.is_weighted(n)]
        harm = {}
        # minmax clips nothing: what is left is the error of rounding, which is the layer's own
        for name in everything:
            forms = self.quantize("minmax", [other for other in everything if other != name])
            harm[name] = self.data.distance(forms[UNSIGNED_INT8], SENSITIVITY_ROWS)
        ranked = sorted(everything, key=lambda name: -harm[name])
        top = ", ".join(f"{name} {harm[name]:.1e}" for name in ranked[:3])
        log.info(f"most sensitive of {len(ranked)} layers, alone in int8: {top}")
        return ranked
