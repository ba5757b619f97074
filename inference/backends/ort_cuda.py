"""ONNX Runtime on an NVIDIA GPU, in fp32 and fp16: fixed buffers, one stream, one CUDA graph for each batch size.

A node that ONNX Runtime would run on the CPU is refused by name: it would cost more than the whole network (int8 files,
1.3 to 1.9 ms against 0.34 at 224 px on an H200), and nothing would say so.

Speed not measured: no GPU was at hand. A prototype answered in 0.32 to 0.36 ms at 224 px, batch 1, host to host, on an
H200 (rounds and date not recorded); `make gpu-check` measures this backend.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import plugins
from core.bundle.contract import INPUT, Bundle, Probs, onnx_name
from core.errors import InputError, as_device_error
from inference import cuda_device
from inference.backends import DETECTOR_ON_CPU, ONNX_HINT, Availability, Backend, Tensor, UnavailableError
from inference.backends.ort import OrtNetwork

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16")
PROVIDER = "CUDAExecutionProvider"
INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]' cuda-python"
REPLACE = f"pip uninstall -y onnxruntime && {INSTALL}"
"""The two packages hold the same files: where both are installed, the CPU's may be the one that is imported."""
CPU = "python -m inference run BUNDLE --backend ort"


@dataclass(frozen=True)
class Options(plugins.PluginOptions):
    """The options of ONNX Runtime on a GPU."""

    cuda_graph: bool = True
    """Replay the network as one CUDA graph for each batch size; else the host starts every kernel of every frame."""
    tf32: bool = False
    """Let the GPU round fp32 products to TF32, a mantissa of 10 bits."""


def availability() -> Availability:
    """Return whether there is a CUDA device and an ONNX Runtime whose CUDA libraries load."""
    if find_spec("onnxruntime") is None:
        return Availability(False, "", "onnxruntime is not installed", INSTALL)
    import onnxruntime as ort

    version = ort.__version__
    if PROVIDER not in ort.get_available_providers():
        return Availability(False, version, "this onnxruntime is built without CUDA", REPLACE)
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        reason = "this onnxruntime does not tell which nodes run on the CPU"
        return Availability(False, version, reason, "pip install --upgrade onnxruntime-gpu")
    if reason := cuda_device.unavailable_reason() or "":
        return Availability(False, version, reason, CPU)
    if reason := _load_libraries(ort):
        return Availability(False, version, reason, INSTALL)
    return Availability(True, version)


def _load_libraries(ort: Any) -> str:
    """Load CUDA and cuDNN from their packages, those of torch among them; return why one does not load, or nothing."""
    with redirect_stdout(io.StringIO()) as said:  # it prints what is missing, and our stdout is for results
        ort.preload_dlls()
    missed = re.search(r"Failed to load (lib\S+: .*)", said.getvalue())
    return missed.group(1) if missed else ""


def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> OrtCudaBackend:
    """Open the hash-checked ONNX file of `precision`.

    Raises InputError when it is damaged or not loadable, UnavailableError when a node of it would run on the CPU.
    """
    return OrtCudaBackend(bundle, precision, batch, options)


class OrtCudaBackend(Backend):
    """A session on a stream of ours, between pinned host buffers and device buffers that are bound once."""

    def __init__(self, bundle: Bundle, precision: str, batch: int, options: Options) -> None:
        import onnxruntime as ort

        path = bundle.check_file(onnx_name(precision))
        self._device = cuda_device.device()
        self._version = ort.__version__
        self._facts = {"precision": precision, "file": path.name}
        # sizes 1, 2, 4, ... and batch, all captured at the start: a new size would be captured in the middle of a run
        powers = [2**i for i in range(batch.bit_length())]
        self._sizes = tuple(sorted({batch, *(size for size in powers if size < batch)}))
        self._size_of = {n: min(size for size in self._sizes if size >= n) for n in range(1, batch + 1)}
        self._bound: dict[int, tuple[Any, Any]] = {}
        # a failure half-way frees what was opened before it, the last first; otherwise `close` does
        with ExitStack() as opened:
            self._stream = cuda_device.open_stream()
            opened.callback(cuda_device.call, "cudaStreamDestroy", self._stream)
            self._frames = cuda_device.PinnedBuffer((batch, *bundle.geometry.empty(1).shape[1:]), np.uint8)
            opened.callback(self._frames.free)
            self._probs = cuda_device.PinnedBuffer((batch, len(bundle.classes)), np.float32)
            opened.callback(self._probs.free)
            self._session = _open_session(path, self._stream, options)
            opened.callback(self._drop_session)
            self._bound |= {size: self._bind(size) for size in self._sizes}
            self.input_nhwc = self._frames.array
            self._warm_up()
            self._opened = opened.pop_all()

    def _bind(self, size: int) -> tuple[Any, Any]:
        """Return the buffers of one batch size, and the run options that keep its graph apart from the others'."""
        import onnxruntime as ort

        binding = self._session.io_binding()
        options = ort.RunOptions()
        frames, probs = self._frames, self._probs
        # device addresses: a CUDA graph replays the addresses that it was captured with, so they must never change
        frames_shape = (size, *frames.array.shape[1:])
        probs_shape = (size, *probs.array.shape[1:])
        binding.bind_input(INPUT["name"], "cuda", 0, np.uint8, frames_shape, frames.device)
        binding.bind_output(INPUT["output"], "cuda", 0, np.float32, probs_shape, probs.device)
        options.add_run_config_entry("gpu_graph_id", str(size))
        # the download follows on the same stream: one wait at its end is enough
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return binding, options

    def _warm_up(self) -> None:
        """Run each batch size once: cuDNN chooses its algorithms and the graphs are captured before the first frame."""
        for size in self._sizes:
            self.infer(size)

    def infer(self, n: int) -> Probs:
        """Run the first `n` rows; return a view, float32 (n, classes)."""
        binding, options = self._bound[self._size_of[n]]
        self._frames.upload(n, self._stream)
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise as_device_error(error, f"onnxruntime {self._version} on {self._device.name}") from None
        self._probs.download(n, self._stream)
        cuda_device.call("cudaStreamSynchronize", self._stream)
        probs: Probs = self._probs.array[:n]
        return probs

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that have kernels and a graph of their own."""
        return self._sizes

    def describe(self) -> dict[str, Any]:
        """Return which file runs on which device."""
        runtime = {"backend": "ort_cuda", "runtime": "onnxruntime", "version": self._version}
        return {**runtime, "device": self._device.name, **self._facts, "threads": 1}

    def close(self) -> None:
        """Free session, buffers and stream, in that order."""
        self._opened.close()

    def _drop_session(self) -> None:
        self._bound.clear()
        self._session = None


def open_network(path: Path, *, threads: int | None = None) -> OrtCudaNetwork:
    """Open an ONNX file of any inputs and outputs of fixed shapes. threads: of no meaning on a GPU.

    Raises InputError when it does not load, UnavailableError where a shape is not fixed or a node would run on the CPU.
    """
    return OrtCudaNetwork(path)


class OrtCudaNetwork(OrtNetwork):
    """An ONNX file in a session on a stream of ours; its inputs are copied into buffers that are bound once."""

    backend = "ort_cuda"

    def __init__(self, path: Path) -> None:
        import onnxruntime as ort

        self._buffers = cuda_device.TensorBuffers()
        self._binding: Any = None
        with ExitStack() as opened:
            self._stream = cuda_device.open_stream()
            opened.callback(cuda_device.call, "cudaStreamDestroy", self._stream)
            opened.callback(self._free)
            super().__init__(path, _open_session(path, self._stream, Options(), DETECTOR_ON_CPU))
            self._binding = self._session.io_binding()
            self._run_options = ort.RunOptions()
            self._run_options.add_run_config_entry("gpu_graph_id", "1")
            # the downloads follow on the same stream: one wait at their end is enough
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            for tensor in self.inputs:
                self._bind(self._binding.bind_input, tensor)
            for tensor in self.outputs:
                self._bind(self._binding.bind_output, tensor)
            # captures the graph
            self.run({tensor.name: self._buffers.by_name[tensor.name].array for tensor in self.inputs})
            self._opened = opened.pop_all()

    def _bind(self, bind: Any, tensor: Tensor) -> None:
        shape = tensor.fixed_shape(self.file)
        dtype = np.dtype(tensor.dtype)
        bind(tensor.name, "cuda", 0, dtype, shape, self._buffers.add(tensor.name, shape, dtype).device)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name."""
        self._buffers.upload(feeds, self._stream)
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise as_device_error(error, "onnxruntime on the GPU") from None
        return self._buffers.download([tensor.name for tensor in self.outputs], self._stream)

    def close(self) -> None:
        """Free session, buffers and stream, in that order."""
        self._opened.close()

    def _free(self) -> None:
        self._binding = self._session = None
        self._buffers.free()


def _open_session(path: Path, stream: Any, options: Options, hint: str = CPU) -> Any:
    """Open the file with every node on the device; without a graph where only that is refused, with a warning."""
    import onnxruntime as ort

    refused = ""
    for graph in dict.fromkeys([options.cuda_graph, False]):
        try:
            session = _new_session(path, stream, graph=graph, tf32=options.tf32)
            break
        except Exception as error:  # onnxruntime's exceptions share no public base
            # with a graph it also refuses nodes on the CPU without naming them: the try without one names them below
            refused = str(error).splitlines()[0]
    else:
        raise InputError(f"{path} does not load in onnxruntime {ort.__version__} ({refused}): {ONNX_HINT}")
    if PROVIDER not in session.get_providers():
        raise UnavailableError(f"onnxruntime {ort.__version__} opens {path} without CUDA: {INSTALL}")
    if nodes := _nodes_on_host(session):
        named = f"{', '.join(nodes[:3])}; {len(nodes)} in all"
        raise UnavailableError(f"onnxruntime {ort.__version__} would run nodes of {path} on the CPU ({named}): {hint}")
    if refused:
        log.warning(f"{path.name}: no CUDA graph ({refused})")
    return session


def _new_session(path: Path, stream: Any, *, graph: bool, tf32: bool) -> Any:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    device = {
        "device_id": "0",
        "user_compute_stream": str(int(stream)),
        "enable_cuda_graph": str(int(graph)),
        "use_tf32": str(int(tf32)),
    }
    # enable_fallback=0: else a file that CUDA refuses is opened on the CPU with only a line on stdout
    return ort.InferenceSession(str(path), settings, providers=[(PROVIDER, device)], enable_fallback=0)


def _nodes_on_host(session: Any) -> list[str]:
    """Return the nodes that were given to another provider than CUDA, each with its operator."""
    nodes = []
    for part in session.get_provider_graph_assignment_info():
        if part.ep_name != PROVIDER:
            nodes += [f"{node.name or 'unnamed'} ({node.op_type})" for node in part.get_nodes()]
    return nodes
