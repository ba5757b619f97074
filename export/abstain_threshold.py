"""Fits the abstain threshold of a bundle on labeled frames, in place of the one that training chose on rows."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from core.bundle.abstain import choose_threshold
from core.bundle.contract import onnx_name
from core.clusters import clustered_wilson
from core.data.pack import Pack
from core.errors import InputError
from export.builder import BundleBuilder
from export.precision.fp32 import stamp
from inference.backends import open_backend
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.proof.frame_score import ScoredFrame, count_answers, mark_answers, score_frames
from inference.runner.labeled_regions import FramesRequest, warn_of_other_classes

log = logging.getLogger(__name__)
BACKEND = "ort"


def fit_on_frames(builder: BundleBuilder, fp32: onnx.ModelProto, pack: Pack, request: FramesRequest) -> None:
    """Set the threshold that keeps the risk wanted in training on frames; stamp the fp32 file with the new contract.

    The frames go through the car's own FrameProcessor. Raises InputError where there are none, or none is answered.
    """
    builder.bind()  # the backend below opens no file that bundle.json does not bind
    warn_of_other_classes(builder.bundle, pack)
    regions, scores = _score(builder, pack, request)
    frames = [score for score in scores if isinstance(score, ScoredFrame)]
    where = f"{len(frames)} {request.split} frames of {pack.path}, in {regions}"
    on_rows = builder.bundle.provenance["abstention"]
    if "risk_wanted" not in on_rows:
        raise InputError(f"the checkpoint of {builder.bundle.arch} names no risk: train it again, with --abstain-risk")
    chosen = _choose(frames, float(on_rows["risk_wanted"]), where)
    facts = {"fitted_on": "frames", "pack": pack.fingerprint, "regions": regions, "frames": len(frames), **chosen}
    if len(frames) < len(scores):
        log.warning(f"{len(scores) - len(frames)} more frames of {pack.path} cannot be read")
    log.info(
        f"{builder.bundle.arch}: abstain threshold {chosen['threshold']:.3f} (on rows {on_rows['threshold']:.3f}), "
        f"fitted on {chosen['objects']} objects in {where}: {chosen['coverage']:.1%} answered, {chosen['risk']:.1%} "
        f"({chosen['risk_low_95']:.1%} to {chosen['risk_high_95']:.1%}) of these wrong"
    )
    if chosen["risk"] > chosen["risk_wanted"]:
        log.warning(
            f"no threshold that answers half of the objects keeps the risk of {chosen['risk_wanted']:.1%} there"
        )
    # the threshold is part of the contract, whose hash stands in the metadata of every ONNX file
    provenance = {**builder.bundle.provenance, "abstention": facts}
    builder.bundle = replace(builder.bundle, abstain_threshold=chosen["threshold"], provenance=provenance)
    stamp(fp32, builder.bundle, "fp32")
    builder.write(onnx_name("fp32"), fp32)


def _score(builder: BundleBuilder, pack: Pack, request: FramesRequest) -> tuple[str, list[ScoredFrame | str]]:
    """Return what the regions are, and the score of each frame, or why it cannot be read."""
    frames = request.frames(pack)
    what, regions = request.regions(pack, frames, builder.bundle, BACKEND, None)
    with closing(regions), open_backend(BACKEND, builder.bundle, "fp32", batch=regions.max_regions) as backend:
        # frames of a split need not follow each other: a car smooths over time, which would mix unrelated pictures
        processor = FrameProcessor(builder.bundle, backend, regions, FrameConfig(sequence=False))
        (scores,) = score_frames([(builder.bundle, processor)], pack, frames)
    return what, scores


def _choose(frames: list[ScoredFrame], risk_wanted: float, where: str) -> dict[str, Any]:
    """Return the threshold with what it reaches: coverage, and risk with its 95% interval."""
    objects = []
    for frame in frames:
        objects += [scored for scored in frame.objects if scored.has_region]
    # only at these the number of answers changes; at each at least one object is answered, so no risk is 0 / 0
    thresholds = sorted({scored.answered_up_to for scored in objects if scored.answered_up_to > 0}, reverse=True)
    if not thresholds:
        silences = {scored.silence for scored in objects if scored.silence}
        failures = {frame.failure for frame in frames if frame.failure}
        reason = ", ".join(sorted(silences | failures)) or "none has a region"
        raise InputError(f"no threshold can be fitted: no object is answered in {where} ({reason})")
    answered_t, wrong_t = count_answers(objects, thresholds)
    chosen = choose_threshold(np.array(thresholds), answered_t / len(objects), wrong_t / answered_t, risk_wanted)
    answered_n, wrong_n = mark_answers(objects, chosen["threshold"])
    low, high = clustered_wilson(wrong_n[answered_n], np.array([scored.frame for scored in objects])[answered_n])
    return {"objects": len(objects), **chosen, "risk_low_95": low, "risk_high_95": high}
