"""Run the golden frames through an open backend and compare."""

from __future__ import annotations

import numpy as np

from core.bundle.contract import HINT, UNSIGNED, Bundle, Probs
from core.bundle.golden_file import (
    GRAY_LEVELS,
    NAME,
    Golden,
    GoldenCheck,
    compare_probs,
    load_golden,
)
from core.errors import InputError
from inference.backends import Backend
from inference.frame.classifier import RegionClassifier


def check_golden(
    bundle: Bundle, backend_name: str, backend: Backend, precision: str, *, every: int = 1, batch: int | None = None
) -> list[GoldenCheck]:
    """Run the golden frames through geometry and an open backend; return one row a check.

    every: take each n-th region only, to save time. batch: run exactly this many regions at a
    time, some of them twice, so that the kernels of this batch size are checked; None: those of a frame together. The
    null backend has no model, so only geometry is checked.
    Raises InputError when golden.npz is missing or not the file that was proved.
    """
    # checked against its hash: with other answers in it, any model could pass
    golden = load_golden(bundle.check_file(NAME)).every_nth(every)
    if backend_name != "null" and precision not in golden.probs:
        raise InputError(f"{bundle.path / NAME} holds nothing of {precision}: {HINT}")
    probs, gray = _run_frames(bundle, backend, golden, batch)
    rows = [GoldenCheck(backend_name, precision, "geometry, gray levels", gray, GRAY_LEVELS)]
    if backend_name != "null":
        rows += compare_probs(backend_name, precision, probs, _expected(golden, backend, precision))
    return rows


def _expected(golden: Golden, backend: Backend, precision: str) -> Probs:
    """Return the probabilities of the file that the backend opened: the unsigned form of int8 has its own."""
    # TensorRT's form clips where this one does not, so their answers differ by more than roundings
    unsigned = str(backend.describe()["file"]).endswith(f"{UNSIGNED}.onnx")
    return golden.probs.get(f"{precision}{UNSIGNED}" if unsigned else precision, golden.probs[precision])


def _run_frames(bundle: Bundle, backend: Backend, golden: Golden, batch: int | None) -> tuple[Probs, float]:
    """Return the probabilities (r, classes) and the largest gray-level difference, through the car's own code."""
    classifier = RegionClassifier(bundle, backend)
    most = batch or classifier.batch
    probs_rc = np.empty((len(golden.rects_r4), len(bundle.classes)), np.float32)
    gray = 0
    for f, frame in enumerate(golden.frames):
        regions = np.flatnonzero(golden.frame_of_r == f)
        for start in range(0, len(regions), most):
            chosen = regions[start : start + most]
            if batch:
                chosen = np.resize(chosen, batch)  # repeats regions from the start until the batch is full
            rects = [tuple(rect) for rect in golden.rects_r4[chosen].tolist()]
            probs_rc[chosen] = classifier.classify(frame, rects)
            # the bytes that the network was given; int16, since uint8 would wrap below 0
            made = backend.input_nhwc[: len(chosen)].astype(np.int16)
            if made.shape != golden.geometry_rhwc[chosen].shape:
                raise InputError(f"{NAME} is of another input size than {bundle.file}: {HINT}")
            gray = max(gray, int(np.abs(made - golden.geometry_rhwc[chosen]).max()))
    return probs_rc, float(gray)
