"""Runs bundles with OpenVINO on the CPU: fp32, and int8 from the unsigned Q/DQ file.

Measured: the whole frame step in int8 at 64 px takes 0.83 ms (MobileNetInspired), 0.67 (SqueezeNetInspired) and 1.61
(ResNetInspired) for one zone of 1280x720, one core of an AMD EPYC, in turns (rounds not recorded), 2026-11-25,
`python -m benchmarks.studies hotpath BUNDLE --backends ort openvino`; docs/results/2026-11-25-hotpath.txt.
At 224 px int8 takes 0.31, 0.38 and 0.25 of the time of fp32 (2026-11-24, device not recorded;
docs/results/2026-11-24-speed-224.txt).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundle.contract import Bundle, Probs, onnx_name
from core.errors import InputError, as_device_error, check_threads
from core.machine import cores
from core.plugins import PluginOptions
from inference.backends import ONNX_HINT, Availability, Backend, Network, Tensor

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Options(PluginOptions):
    """The options of OpenVINO on the CPU."""

    threads: int | None = None
    """Cores that a frame is shared among; all cores of this process unless set."""

    def __post_init__(self) -> None:
        check_threads(self.threads)


def availability() -> Availability:
    """Return whether openvino can be imported."""
    if find_spec("openvino") is None:
        return Availability(False, "", "openvino is not installed", "pip install openvino")
    import openvino

    return Availability(available=True, version=openvino.__version__)


def file_name(precision: str) -> str:
    """Return the ONNX file that a precision runs.

    int8 is the unsigned form: in the signed form OpenVINO 2026.4 loses the zero point on the way through a Concat
    (|dprob| 0.67 on a SqueezeNet, rounding alone where there is no Concat), without a warning.
    """
    return onnx_name(precision, unsigned=precision == "int8")


def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> OpenvinoBackend:
    """Open the hash-checked ONNX file of `precision`. Raises InputError when it is damaged or not loadable."""
    return OpenvinoBackend(bundle, precision, batch, options.threads or cores())


class OpenvinoBackend(Backend):
    """One compiled static-shape model and request per batch size, bound to the same buffers."""

    def __init__(self, bundle: Bundle, precision: str, batch: int, threads: int) -> None:
        import openvino as ov

        path = bundle.check_file(file_name(precision))
        self._threads = threads
        config = _config(threads)
        self.input_nhwc = bundle.geometry.empty(batch)
        self._probs_nc = np.empty((batch, len(bundle.classes)), np.float32)
        self._version = str(ov.__version__)
        self._facts = {"precision": precision, "file": path.name}
        core = ov.Core()
        try:
            self._requests = {n: self._request(core, path, config, n) for n in range(1, batch + 1)}
        except RuntimeError as error:
            raise _not_loadable(path, error) from None

    def _request(self, core: Any, path: Any, config: dict[str, Any], n: int) -> Any:
        import openvino as ov

        # read for each batch size, since reshape changes the model; a static shape lets OpenVINO plan its memory
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
            # without it OpenVINO copies the results once more; they lie in `_probs_nc` already
            request.infer(share_outputs=True)
        except RuntimeError as error:
            raise as_device_error(error, "openvino") from None
        return self._probs_nc[:n]

    def describe(self) -> dict[str, Any]:
        """Return which file runs on how many threads."""
        common = {"backend": "openvino", "runtime": "openvino", "version": self._version, "device": "cpu"}
        return {**common, **self._facts, "threads": self._threads}

    def close(self) -> None:
        """Drop the requests and with them the compiled models."""
        self._requests.clear()


def open_network(path: Path, *, threads: int | None = None) -> OpenvinoNetwork:
    """Open any ONNX file. Raises InputError when it does not load."""
    return OpenvinoNetwork(path, threads)


class OpenvinoNetwork(Network):
    """An ONNX file as a compiled model; its inputs are arrays of the caller."""

    backend = "openvino"

    def __init__(self, path: Path, threads: int | None) -> None:
        import openvino as ov

        core = ov.Core()
        try:
            model = core.read_model(str(path))
            self._request = core.compile_model(model, "CPU", _config(threads or cores())).create_infer_request()
        except RuntimeError as error:
            raise _not_loadable(path, error) from None
        self.file = path
        self.inputs = tuple(_tensor(port) for port in model.inputs)
        self.outputs = tuple(_tensor(port) for port in model.outputs)
        # OpenVINO keeps the metadata of an ONNX file under this key
        written = dict(model.get_rt_info()).get("framework", {})
        self.metadata = {key: str(value.astype(str)) for key, value in written.items()}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name."""
        # shared: the caller's arrays are read where they lie; nobody writes to them during the call
        results = self._request.infer(dict(feeds), share_inputs=True)
        return {tensor.name: results[i] for i, tensor in enumerate(self.outputs)}

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = None


def _tensor(port: Any) -> Tensor:
    sides = tuple(side.get_length() if side.is_static else None for side in port.partial_shape)
    return Tensor(port.any_name, port.element_type.to_dtype().name, sides)


def _config(threads: int) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else a CPU with bf16 units computes fp32 files in bf16
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,  # streams serve several requests at a time; here one frame follows another
    }


def _not_loadable(path: Path, error: RuntimeError) -> InputError:
    import openvino as ov

    # OpenVINO names its own source files first and the reason last
    reason = " ".join(str(error).split())[-200:]
    return InputError(f"{path} does not load in openvino {ov.__version__} ({reason}): {ONNX_HINT}")
