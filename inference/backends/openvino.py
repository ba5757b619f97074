"""OpenVINO on the CPU: f32, and int8 from the Q/DQ file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from core import plugins
from core.bundle.contract import Bundle, Probs, onnx_name
from core.errors import InputError, as_device_error, check_positive
from core.machine import cores
from inference.backends import Availability, Backend

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Options(plugins.Options):
    """How OpenVINO uses the processor."""

    threads: int | None = None
    """Cores that a frame is shared among; all cores of this process unless set."""

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_positive(threads=self.threads)


def availability() -> Availability:
    """Say whether openvino can be imported."""
    if find_spec("openvino") is None:
        return Availability(False, "", "openvino is not installed", "pip install openvino")
    import openvino

    return Availability(available=True, version=openvino.__version__)


def file_name(precision: str) -> str:
    """Return the ONNX file that a precision runs.

    int8 is the unsigned form: of the signed one OpenVINO 2026.4 loses the zero point on the way through a Concat
    (|dprob| 0.67 on a SqueezeNet, rounding alone where there is no Concat), with no word of warning.
    """
    return onnx_name(precision, ort_form=precision == "int8")


def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> OpenvinoBackend:
    """Open the hash-checked ONNX file of `precision`. Raises InputError when it is damaged or not loadable."""
    return OpenvinoBackend(bundle, precision, batch, options.threads or cores())


class OpenvinoBackend(Backend):
    """One compiled static-shape model and request per batch size, bound to the same buffers."""

    def __init__(self, bundle: Bundle, precision: str, batch: int, threads: int) -> None:
        import openvino as ov

        path = bundle.check_file(file_name(precision))
        self._threads = threads
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
        }
        self.input_nhwc = bundle.geometry.empty(batch)
        self._probs_nc = np.empty((batch, len(bundle.classes)), np.float32)
        self._version = str(ov.__version__)
        self._facts = {"precision": precision, "file": path.name}
        core = ov.Core()
        try:
            self._requests = {n: self._request(core, path, config, n) for n in range(1, batch + 1)}
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise InputError(f"{path} does not load in openvino {self._version} ({reason})") from None

    def _request(self, core: Any, path: Any, config: dict[str, Any], n: int) -> Any:
        import openvino as ov

        model = core.read_model(str(path))
        model.reshape([n, *self.input_nhwc.shape[1:]])
        request = core.compile_model(model, "CPU", config).create_infer_request()
        request.set_input_tensor(ov.Tensor(self.input_nhwc[:n], shared_memory=True))
        request.set_output_tensor(ov.Tensor(self._probs_nc[:n], shared_memory=True))
        return request

    def infer(self, n: int) -> Probs:
        """Run the first `n` rows; return a view, float32 (n, classes)."""
        request = self._requests[n]
        try:
            request.infer(share_outputs=True)
        except RuntimeError as error:
            raise as_device_error(error, "openvino") from None
        return self._probs_nc[:n]

    def describe(self) -> dict[str, Any]:
        """Say which file runs on how many threads."""
        common = {"backend": "openvino", "runtime": "openvino", "version": self._version, "device": "cpu"}
        return {**common, **self._facts, "threads": self._threads}

    def close(self) -> None:
        """Drop the requests and with them the compiled models."""
        self._requests.clear()
