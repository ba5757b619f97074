"""Runs bundles with ONNX Runtime on the CPU. int8 opens the unsigned Q/DQ form, which this runtime fuses.

Measured: the whole frame step in int8 at 64 px takes 0.85 ms (MobileNetInspired), 0.62 (SqueezeNetInspired) and 1.53
(ResNetInspired) for one zone of 1280x720, one core of an AMD EPYC, in turns (rounds not recorded), 2026-11-25,
`python -m benchmarks.studies hotpath BUNDLE --backends ort openvino`; docs/results/2026-11-25-hotpath.txt.
At 224 px int8 takes 0.39, 0.49 and 0.33 of the time of fp32 (2026-11-24, device not recorded;
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

from core.bundle.contract import INPUT, Bundle, Probs, onnx_name
from core.errors import InputError, as_device_error, check_threads
from core.machine import cores
from core.plugins import PluginOptions
from inference.backends import ONNX_HINT, Availability, Backend, Network, Tensor

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Options(PluginOptions):
    """The options of ONNX Runtime on the CPU."""

    threads: int | None = None
    """Cores that a frame is shared among; all cores of this process unless set."""
    spin: bool = True
    """Threads without work wait in a loop: faster alone, slower beside a detector, where it is false unless set."""

    def __post_init__(self) -> None:
        check_threads(self.threads)


def availability() -> Availability:
    """Return whether onnxruntime can be imported."""
    if find_spec("onnxruntime") is None:
        return Availability(False, "", "onnxruntime is not installed", "pip install onnxruntime")
    import onnxruntime

    return Availability(available=True, version=onnxruntime.__version__)


def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> OrtBackend:
    """Open the hash-checked ONNX file of `precision`. Raises InputError when it is damaged or not loadable."""
    return OrtBackend(bundle, precision, batch, options)


class OrtBackend(Backend):
    """A session whose input and output buffers are bound once per batch size: no copy and no allocation a call."""

    def __init__(self, bundle: Bundle, precision: str, batch: int, options: Options) -> None:
        import onnxruntime as ort

        path = bundle.check_file(onnx_name(precision, unsigned=precision == "int8"))
        self._session = _open_session(path, options.threads or cores(), spin=options.spin)
        self._facts = {
            "precision": precision,
            "file": path.name,
            "threads": self._session.get_session_options().intra_op_num_threads,
        }
        self._version = ort.__version__
        self.input_nhwc = bundle.geometry.empty(batch)
        self._probs_nc = np.empty((batch, len(bundle.classes)), np.float32)
        self._bindings = {n: self._bind(n) for n in range(1, batch + 1)}

    def _bind(self, n: int) -> Any:
        # bound to slices of the same two arrays: a row that geometry writes is a row that the session reads
        binding = self._session.io_binding()
        frames, probs = self.input_nhwc[:n], self._probs_nc[:n]
        binding.bind_input(INPUT["name"], "cpu", 0, np.uint8, frames.shape, frames.ctypes.data)
        binding.bind_output(INPUT["output"], "cpu", 0, np.float32, probs.shape, probs.ctypes.data)
        return binding

    def infer(self, n: int) -> Probs:
        """Run the first `n` rows; return a view, float32 (n, classes)."""
        binding = self._bindings[n]
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise as_device_error(error, "onnxruntime") from None
        return self._probs_nc[:n]

    def describe(self) -> dict[str, Any]:
        """Return which file runs on how many threads."""
        return {"backend": "ort", "runtime": "onnxruntime", "version": self._version, "device": "cpu", **self._facts}

    def close(self) -> None:
        """Drop the session."""
        self._bindings.clear()
        self._session = None


def open_network(path: Path, *, threads: int | None = None) -> OrtNetwork:
    """Open any ONNX file. Raises InputError when it does not load."""
    # a detector runs beside the classifier, whose threads want the same cores
    return OrtNetwork(path, _open_session(path, threads or cores(), spin=False))


class OrtNetwork(Network):
    """An ONNX file in a session; its inputs are arrays of the caller."""

    backend = "ort"

    def __init__(self, path: Path, session: Any) -> None:
        self.file, self._session = path, session
        self.inputs = tuple(_tensor(value) for value in self._session.get_inputs())
        self.outputs = tuple(_tensor(value) for value in self._session.get_outputs())
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._names = [tensor.name for tensor in self.outputs]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name."""
        return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _tensor(value: Any) -> Tensor:
    # ONNX Runtime names types as C++ does, and gives a side that is not fixed as a text, its name
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return Tensor(value.name, dtype, tuple(n if isinstance(n, int) else None for n in value.shape))


def _open_session(path: Path, threads: int, *, spin: bool) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors alone: its warnings would go to stderr, where our log is
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.inter_op_num_threads = 1  # the networks are chains: two nodes can rarely run at the same time
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not load in onnxruntime {ort.__version__} ({reason}): {ONNX_HINT}") from None
