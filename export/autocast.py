"""fp16 by nvidia-modelopt's autocast, an optional extra: what stays in fp32 is by its rules and by ours."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.to_fp16 import halved_names
from inference.contract import INPUT
from inference.errors import CheckError, InputError
from inference.preprocess import Bytes


def check_installed() -> str:
    """Return which autocast this is. Raises InputError with the mend when the extra is not installed."""
    if find_spec("modelopt") is None:
        raise InputError(
            "--autocast needs nvidia-modelopt, which is not installed: pip install 'nvidia-modelopt[onnx]' in an "
            "environment of its own (it wants an older onnxruntime), or leave --autocast away"
        )
    return f"nvidia-modelopt {version('nvidia-modelopt')} autocast"


def autocast(model: onnx.ModelProto, frames_nhwc: Bytes, keep_float: Iterable[str] = ()) -> onnx.ModelProto:
    """Return the fp16 graph. frames_nhwc: real rows that it observes ranges on, uint8 (n, S, S, 3).

    keep_float: names of nodes that stay in fp32 besides those that autocast keeps, the normalisation and the softmax.
    """
    from modelopt.onnx.autocast import convert_to_mixed_precision

    halved = halved_names(model, keep_float)
    kept = [f"^{re.escape(node.name)}$" for node in model.graph.node if node.name not in halved]
    logging.getLogger("modelopt").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(model, Path(scratch) / "fp32.onnx")
        rows: dict[str, Any] = {INPUT["name"]: frames_nhwc}
        np.savez(Path(scratch) / "rows.npz", **rows)
        try:
            converted: onnx.ModelProto = convert_to_mixed_precision(
                onnx_path=str(Path(scratch) / "fp32.onnx"),
                low_precision_type="fp16",
                nodes_to_exclude=kept,
                keep_io_types=True,
                calibration_data=str(Path(scratch) / "rows.npz"),
            )
            onnx.checker.check_model(converted, full_check=True)
        except (RuntimeError, ValueError, TypeError, AssertionError, onnx.checker.ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckError(f"nvidia-modelopt's autocast cannot convert this network ({reason})") from error
    return converted
