"""Build the bundle of a checkpoint, one precision after the other: fp32, fp16, int8.

Parity is no stage after them but a step within each `add_*`: the graph is converted, its answers are compared with
those of torch, its gate is decided, and only a graph that passes is written. `export/seal.py` then proves the files.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from core.bundle.contract import UNSIGNED, UNSIGNED_INT8, Bundle, onnx_name
from core.data.pack import Pack
from core.errors import CheckError, InputError
from core.files import sha256_of_file, sha256_of_json
from core.geometry.preprocess import Geometry
from core.machine import versions
from export.builder import SPLITS, BundleBuilder
from export.latency_only import resize_pack
from export.precision import fp16, int8
from export.precision.fp32 import stamp, to_onnx
from export.quantize import calibration
from export.quantize.search import EvalSet, search
from export.verify import golden_frames
from export.verify.parity import first_failure, run_onnx, run_torch
from models.checkpoint import Checkpoint, CheckpointMetadata

log = logging.getLogger(__name__)

TOOLS = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "timm", "numpy", "opencv-python-headless")


def check_agreement(path: Path, facts: CheckpointMetadata, pack: Pack) -> None:
    """Raise InputError when a checkpoint was not trained on this pack."""
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


def begin_bundle(
    path: Path, checkpoint: Checkpoint, network: nn.Module, pack: Pack, folder: Path, size_px: int
) -> BundleBuilder:
    """Return a builder with contract, rows, golden frames and the answers of torch, which writes into `folder`.

    network: the checkpoint's network, whose probabilities are the reference for every file.
    """
    facts = checkpoint.metadata
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
    # at the trained size this is the pack itself
    resized = resize_pack(pack, geometry)
    golden_rows = calibration.rows_in_turn(resized, "val", golden_frames.REGIONS)
    rows = {split: resized.rows(split) for split in SPLITS}
    return BundleBuilder(
        bundle=bundle,
        pack=resized,
        rows=rows,
        reference={split: run_torch(network, resized.images_nhwc, rows[split]) for split in SPLITS},
        golden=golden_frames.draw(np.asarray(resized.images_nhwc[golden_rows]), geometry),
        latency_only=geometry != facts.geometry,
    )


def _provenance(path: Path, facts: CheckpointMetadata, pack: Pack) -> dict[str, Any]:
    abstention = {"fitted_on": "rows", "rows": len(pack.rows("val"))}
    return {
        "pack": {"path": str(pack.path), "fingerprint": pack.fingerprint},
        "checkpoint": {"sha256": sha256_of_file(path), "metrics": facts.metrics, "seed": facts.seed},
        "abstention": abstention | facts.metrics.get("abstention", {}),
        "commit": facts.commit,
        "tools": {"python": platform.python_version()} | versions(TOOLS),
    }


def add_fp32(builder: BundleBuilder, network: nn.Module) -> onnx.ModelProto:
    """Write the fp32 file and return its graph. Raises CheckError when its answers are not those of torch."""
    model = to_onnx(network, builder.bundle.geometry.size_px)
    stamp(model, builder.bundle, "fp32")
    result = builder.evaluate("fp32", lambda rows: run_onnx(model, builder.pack.images_nhwc, rows))
    gate = builder.add_gate("fp32", [result])
    # without fp32 nothing ships: every other precision is derived from this graph
    if not gate["passed"]:
        reason = first_failure(gate)
        raise CheckError(f"{builder.bundle.arch}: no bundle, fp32 is not the network that was trained ({reason})")
    # fp32 is held to torch itself; every other precision to its own file, within the tolerance of that precision
    regions = np.arange(len(builder.golden.geometry_rhwc))
    builder.golden = replace(builder.golden, probs={"fp32": run_torch(network, builder.golden.geometry_rhwc, regions)})
    builder.write(onnx_name("fp32"), model)
    return model


def add_or_refuse(builder: BundleBuilder, precision: str, add: Callable[[], None]) -> None:
    """Add a precision by calling `add`; when that fails, record the reason in the gate, so that the others ship."""
    # a failure half-way must leave neither golden answers nor results of a file that is not there
    golden_before = builder.golden
    results_before = list(builder.results)
    try:
        add()
    except (InputError, OSError):  # wrong input or a full disk would stop every other precision too
        raise
    except Exception as error:  # a graph that our code, onnx or the runtime cannot handle: each has its own exceptions
        reason = " ".join(str(error).split())[:200]
        refused = {"passed": False, "checks": [], "note": f"it cannot be made, {type(error).__name__}: {reason}"}
        builder.golden, builder.results = golden_before, results_before
        builder.set_gate(precision, refused)


def add_fp16(builder: BundleBuilder, fp32: onnx.ModelProto) -> None:
    """Convert to fp16, except nodes that overflow on real rows, and write the file when it passes its gate."""
    images = builder.pack.images_nhwc
    observer = calibration.Observer(fp32, [name for node in fp32.graph.node for name in node.output])
    amax = calibration.find_peaks(observer, images, calibration.calibration_rows(builder.pack))
    kept = fp16.find_overflowing(fp32, amax)
    if kept:
        log.info(f"{builder.bundle.arch}: fp16 cannot hold what {', '.join(kept)} compute: they stay in fp32")
    model = fp16.to_fp16(fp32, kept)
    stamp(model, builder.bundle, "fp16")
    result = builder.evaluate("fp16", lambda rows: run_onnx(model, images, rows))
    if builder.add_gate("fp16", [result], {"kept_float": kept})["passed"]:
        builder.add_golden("fp16", model)
        builder.write(onnx_name("fp16"), model)


def add_int8(builder: BundleBuilder, fp32: onnx.ModelProto) -> None:
    """Search for an int8 network that passes its gate, and write both its forms when there is one."""
    images = builder.pack.images_nhwc
    rows = calibration.calibration_rows(builder.pack)
    val = builder.rows["val"]
    labels = builder.pack.labels_n[val]
    data = EvalSet(images, rows, val, builder.reference["val"], labels, builder.golden.geometry_rhwc)
    # for latency alone no gate is asked, so the search would repair what nobody uses
    found = search(fp32, data, repair=not builder.latency_only)
    for model in found.forms.values():
        stamp(model, builder.bundle, "int8")
    signed, unsigned = found.forms["int8"], found.forms[UNSIGNED_INT8]
    results = [
        # exact: TensorRT computes the file as written; what ONNX Runtime would fuse in it says nothing about TensorRT
        builder.evaluate("int8", lambda rows: run_onnx(signed, images, rows, exact=True)),
        builder.evaluate(UNSIGNED_INT8, lambda rows: run_onnx(unsigned, images, rows)),
    ]
    facts = found.facts()
    facts["calibration_rows"] = len(rows)
    # engine manifests carry this hash: an engine tells by it which ranges its int8 file was made with
    facts["calibration"] = sha256_of_json([builder.pack.fingerprint, rows.tolist(), facts])
    facts["float_layers"] = int8.float_layers(signed, found.kept_float)
    # The search also asks that fusing moves the golden answers by at most half the tolerance, to leave room for other
    # runtimes. That is its target, not a gate: seal.py here, and the self-test in the car, run the unsigned file on the
    # golden frames as their runtime fuses it, and hold it to the whole tolerance.
    if builder.add_gate("int8", results, facts)["passed"]:
        builder.add_golden("int8", signed)
        builder.add_golden(f"int8{UNSIGNED}", unsigned)
        builder.write(onnx_name("int8"), signed)
        builder.write(onnx_name("int8", unsigned=True), unsigned)
