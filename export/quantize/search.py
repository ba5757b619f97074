"""Find an int8 file that holds its gate: calibration methods first, then equalisation, then the fewest float layers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from core.bundle.contract import TOLERANCE
from core.geometry.frame import Bytes
from export.graph.nodes import Graph
from export.precision import int8
from export.quantize import calibration
from export.quantize.calibration import Histogram
from export.quantize.equalise import equalise
from export.verify.parity import Probs, breach, gate, measure, run_onnx

log = logging.getLogger(__name__)

EQUALISING_ROWS = 64
SENSITIVITY_ROWS = 64
"""Rows of val that rank the layers; every decision is then made on all of val."""
OTHERS_ROOM = 2
"""The search leaves half of the golden tolerance to runtimes it does not ask: each rounds in its own places."""
Forms = dict[str, onnx.ModelProto]
"""{"int8": TensorRT's form, "int8 ort": ONNX Runtime's}."""


@dataclass(frozen=True)
class Evidence:
    """What a file is judged by."""

    images_nhwc: Bytes
    calibration_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]
    reference: Probs
    """Torch's probabilities of val, float32 (n, classes)."""
    labels: NDArray[np.int64]
    """Of val."""
    golden_rhwc: Bytes | None = None
    """The golden regions: on them a runtime must give what the file says, to the tolerance of int8."""

    def distance(self, model: onnx.ModelProto, count: int | None = None) -> float:
        """Return the mean over val rows of max |dprob| to torch."""
        few = np.linspace(0, len(self.val_rows) - 1, min(count or len(self.val_rows), len(self.val_rows))).astype(int)
        probs = run_onnx(model, self.images_nhwc, self.val_rows[few])
        return float(np.nan_to_num(np.abs(probs - self.reference[few]), nan=1.0).max(1).mean())

    def judge(self, forms: Forms) -> dict[str, Any]:
        """Return the gates of both forms on val, and whether fusing changes what the golden frames give.

        A runtime rounds a fused layer in other places than the file says. Where that alone moves the answer by more
        than the tolerance, the network hangs on single roundings, and the power-on self-test would refuse it.
        """
        rungs = [
            measure(name, "val", self.val_rows, run_onnx(model, self.images_nhwc, self.val_rows, exact=name == "int8"),
                    self.reference, self.labels)
            for name, model in forms.items()
        ]  # fmt: skip
        judged = gate("int8", rungs)
        if self.golden_rhwc is not None:
            regions = np.arange(len(self.golden_rhwc))
            fused, written = (run_onnx(forms["int8 ort"], self.golden_rhwc, regions, exact=e) for e in (False, True))
            moved = float(np.abs(fused - written).max())
            limit, name = TOLERANCE["int8"] / OTHERS_ROOM, "int8 ort: golden frames, fused against as written"
            judged["checks"].append({"name": name, "value": moved, "limit": limit, "passed": moved <= limit})
            judged["passed"] = all(check["passed"] for check in judged["checks"])
        return judged


@dataclass(frozen=True)
class Step:
    """One attempt of the search."""

    tried: str
    mean_dprob: dict[str, float]
    """Of the worse form, by each calibration method; the nearest to torch is judged."""
    outcome: str
    """"passed", or the sentence of the first check that failed."""

    def __str__(self) -> str:
        scores = ", ".join(f"{method} {score:.1e}" for method, score in self.mean_dprob.items())
        return f"int8 {self.tried}: {self.outcome} (mean |dprob|: {scores})"


@dataclass
class Found:
    """Where the search stands: the best forms so far and how they were come by."""

    forms: Forms
    passed: bool
    method: str
    kept_float: list[str] = field(default_factory=list)
    equalised: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what stands in the gates of bundle.json."""
        shown = ("method", "kept_float", "equalised")
        return {**{name: getattr(self, name) for name in shown}, "search": [asdict(step) for step in self.steps]}


def search(fp32: onnx.ModelProto, evidence: Evidence, *, repair: bool = True) -> Found:
    """Return the first of: as it is, equalised, equalised or not with the fewest layers in float, that passes."""
    plain = _Attempts(fp32, evidence)
    if plain.try_methods() or not repair:
        return plain.best
    balanced, names = equalise(fp32, _ranges(evidence))
    attempts = plain
    if names:
        other = _Attempts(balanced, evidence, plain.best.steps, names)
        if other.try_methods():
            return other.best
        attempts = min(plain, other, key=lambda a: a.distance)
    attempts.give_back()
    return attempts.best


def _ranges(evidence: Evidence) -> Callable[[onnx.ModelProto, Iterable[str]], dict[str, NDArray[np.float32]]]:
    rows = evidence.calibration_rows[:: max(1, len(evidence.calibration_rows) // EQUALISING_ROWS)]
    return lambda model, tensors: calibration.channel_ranges(model, tensors, evidence.images_nhwc, rows)


class _Attempts:
    """Tries to quantise one fp32 graph, remembering what was tried."""

    def __init__(
        self,
        fp32: onnx.ModelProto,
        evidence: Evidence,
        steps: list[Step] | None = None,
        equalised: list[str] | None = None,
    ) -> None:
        self.fp32, self.evidence = fp32, evidence
        self.steps, self.equalised = steps if steps is not None else [], equalised or []
        tensors = int8.plan(fp32).tensors
        observer = calibration.Observer(fp32, tensors)
        self.histograms: Mapping[str, Histogram] = calibration.observe(
            observer, evidence.images_nhwc, evidence.calibration_rows
        )
        self.distance = float("inf")

    def quantise(self, method: str, kept: Iterable[str] = ()) -> Forms:
        plan = int8.plan(self.fp32, kept)
        amax = calibration.ranges({name: self.histograms[name] for name in plan.tensors}, method)
        signed = int8.quantise(self.fp32, plan, amax)
        return {"int8": signed, "int8 ort": int8.ort_form(signed)}

    def try_methods(self, kept: Sequence[str] = ()) -> bool:
        """Judge the calibration method whose worse form is nearest to torch; say whether it passed."""
        # the worse of both forms: the unsigned one has room above a ReLU where the signed one clips
        made = {method: self.quantise(method, kept) for method in calibration.METHODS}
        scores = {m: max(self.evidence.distance(form) for form in forms.values()) for m, forms in made.items()}
        best = min(scores, key=lambda method: scores[method])
        self.distance = scores[best]
        gates = self.evidence.judge(made[best])
        outcome = "passed" if gates["passed"] else breach(gates)
        self.steps.append(Step(self._name(best, kept), scores, outcome))
        log.info(str(self.steps[-1]))
        self.best = Found(made[best], gates["passed"], best, list(kept), self.equalised, self.steps)
        return self.best.passed

    def _name(self, method: str, kept: Sequence[str]) -> str:
        balanced = f", {len(self.equalised)} layers equalised" if self.equalised else ""
        return f"{method}{balanced}" + (f", {len(kept)} layers in float" if kept else "")

    def give_back(self) -> None:
        """Give layers back to float, the most sensitive first, until the gate holds: the fewest of that order."""
        ranked = self._rank()
        failing, passing = 0, len(ranked) // 2 + 1  # with more than half in float int8 is not int8
        best = None
        while passing - failing > 1:
            # doubling first: it is nearly always one or two layers
            count = (failing + passing) // 2
            if best is None:
                count = min(count, max(1, 2 * failing))
            # every method again: the one that did least harm to a broken file need not suit a mended one
            if self.try_methods(ranked[:count]):
                passing, best = count, self.best
            else:
                failing = count
        if best is not None:
            self.best = best

    def _rank(self) -> list[str]:
        """Return the nodes that are quantised, the one that alone does the most harm first."""
        graph = Graph(self.fp32)
        everything = [n.name for n in graph.nodes if n.op_type in int8.QUANTISED or graph.is_weighted(n)]
        harm = {}
        for name in everything:
            forms = self.quantise("minmax", [other for other in everything if other != name])
            harm[name] = self.evidence.distance(forms["int8 ort"], SENSITIVITY_ROWS)
        ranked = sorted(everything, key=lambda name: -harm[name])
        shown = ", ".join(f"{name} {harm[name]:.1e}" for name in ranked[:3])
        log.info(f"most sensitive of {len(ranked)} layers, alone in int8: {shown}")
        return ranked
