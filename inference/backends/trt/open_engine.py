"""An engine on the device: deserialized, with a context and a CUDA graph for each batch size, and its proof."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from core.bundle.engine_manifest import EngineManifest
from core.errors import DeviceError, InputError
from inference import cuda_device
from inference.backends import Tensor
from inference.backends.trt.build_progress import logger
from inference.backends.trt.kernel_cache import read_cache, runtime_file, write_cache

log = logging.getLogger(__name__)

Shapes = Mapping[int, Mapping[str, tuple[int, ...]]]
"""{batch size: {name of an input: its shape}}, in the order of the engine's profiles."""


class OpenEngine:
    """An engine on a stream of its own. Its manifest was checked: it is native code."""

    def __init__(self, path: Path, manifest: EngineManifest, trt: Any, *, cuda_graph: bool) -> None:
        """Raises InputError when it does not load."""
        self.manifest = manifest
        self.device = cuda_device.device()
        self._path = path
        self._trt = trt
        self._cuda_graph = cuda_graph
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        self._config: Any = None
        self._kernels: Any = None
        messages = logger(trt)
        self._runtime = trt.Runtime(messages)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise InputError(f"{path} does not load ({(messages.errors or ['no reason given'])[0]}): remove it")
        self.stream = cuda_device.open_stream()

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the inputs and the outputs of the network. Raises InputError for a type that numpy does not have."""
        inputs, outputs = list[Tensor](), list[Tensor]()
        for name in [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]:
            kind = self._engine.get_tensor_dtype(name)
            sides = tuple(self._engine.get_tensor_shape(name))
            try:
                dtype = np.dtype(self._trt.nptype(kind)).name
            except TypeError:
                raise InputError(f"{self._path}: {name} is of {kind}, which numpy does not have") from None
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            tensor = Tensor(name, dtype, tuple(None if side < 0 else side for side in sides))
            (inputs if is_input else outputs).append(tensor)
        return tuple(inputs), tuple(outputs)

    def bind(self, buffers: Mapping[str, cuda_device.PinnedBuffer], shapes: Shapes) -> None:
        """Make a context and a graph for each batch size, all between the same buffers, one for each tensor."""
        self._make_contexts(buffers, shapes)
        # TensorRT-RTX has captured each context already, in `_configure`; TensorRT leaves the capture to its caller
        if self._cuda_graph and not hasattr(self._config, "cuda_graph_strategy"):
            self._graphs = self._capture_all()

    def _make_contexts(self, buffers: Mapping[str, cuda_device.PinnedBuffer], shapes: Shapes) -> None:
        """Make a context for each batch size. TensorRT-RTX compiles its kernels here, unless the cache holds them."""
        started = perf_counter()
        self._kept = read_cache(runtime_file(self._path), self.manifest.engine_sha256)
        if hasattr(self._engine, "create_runtime_config"):
            self._configure(self._engine.create_runtime_config())
        # the build adds the profiles in the order of the batch sizes, and an engine knows them by their number
        for profile, (batch, inputs) in enumerate(shapes.items()):
            self._contexts[batch] = self._context(profile, inputs, buffers)
        if self._kernels is not None:
            how = "found" if self._kept else "compiled (`python -m inference verify` keeps them)"
            log.info(f"{self._path.name}: kernels {how} in {perf_counter() - started:.2f} s")

    def _configure(self, config: Any) -> None:
        """Fill the runtime configuration. TensorRT's own has no kernel cache and no graphs: it is left unused."""
        if not hasattr(config, "create_runtime_cache"):
            return
        self._config = config
        self._kernels = config.create_runtime_cache()
        if self._kept:
            self._kernels.deserialize(self._kept)
        config.set_runtime_cache(self._kernels)
        if self._cuda_graph and hasattr(config, "cuda_graph_strategy"):
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE

    def _context(
        self, profile: int, inputs: Mapping[str, tuple[int, ...]], buffers: Mapping[str, cuda_device.PinnedBuffer]
    ) -> Any:
        config = () if self._config is None else (self._config,)
        context = self._engine.create_execution_context(*config)
        context.set_optimization_profile_async(profile, int(self.stream))
        for name, shape in inputs.items():
            context.set_input_shape(name, shape)
        # all contexts share the buffers, since only one of them runs at a time
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.device)
        return context

    def _capture_all(self) -> dict[int, Any]:
        """Capture the work of each batch size; one that cannot be captured is run kernel by kernel, with a warning."""
        graphs = {}
        for batch, context in self._contexts.items():
            # the first run allocates, which no capture allows
            self._enqueue(context)
            cuda_device.call("cudaStreamSynchronize", self.stream)
            try:
                graphs[batch] = cuda_device.capture(self.stream, partial(context.execute_async_v3, int(self.stream)))
            except DeviceError as error:
                log.warning(f"{self._path.name}: no CUDA graph at batch {batch} ({error})")
        return graphs

    def enqueue(self, batch: int) -> None:
        """Put the work of a batch size on the stream. Raises DeviceError when the engine or its device fails."""
        if batch in self._graphs:
            cuda_device.call("cudaGraphLaunch", self._graphs[batch], self.stream)
        else:
            self._enqueue(self._contexts[batch])

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(int(self.stream)):
            raise DeviceError(f"{self.manifest.engine} failed to run: build it again for this device")

    @property
    def proved(self) -> bool:
        """Whether the golden frames passed on this file, device, driver and runtime version, as the manifest says."""
        # the date is left out: every other key must be as it is here, now
        known = self.manifest.proved_on or {}
        return {key: value for key, value in known.items() if key != "date"} == self._here()

    def _here(self) -> dict[str, Any]:
        return {**self.device.as_json(), "runtime": self.manifest.runtime, "version": self.manifest.version}

    def mark_proved(self) -> None:
        """Write into the manifest that the golden frames passed here, and keep the kernels compiled so far.

        On a read-only disk neither is kept, with a warning.
        """
        try:
            if not self.proved:
                date = datetime.now(timezone.utc).isoformat(timespec="seconds")
                proved = self.manifest.proved({**self._here(), "date": date})
                proved.save(self._path.parent)
                self.manifest = proved  # only after the file was written: a proof that is not kept is none
            if self._kernels is not None and (compiled := bytes(self._kernels.serialize())) != self._kept:
                write_cache(runtime_file(self._path), self.manifest.engine_sha256, compiled)
                self._kept = compiled
        except OSError as error:
            log.warning(f"{self._path.parent} cannot be written ({error.strerror}): no proof kept")

    def close(self) -> None:
        """Free graphs, contexts, engine and stream, in that order. A second call does nothing."""
        if self._engine is None:
            return
        # a graph holds the addresses of its context's buffers, and a context belongs to its engine
        for graph in self._graphs.values():
            cuda_device.call("cudaGraphExecDestroy", graph)
        self._graphs.clear()
        self._contexts.clear()
        self._kernels = self._config = None
        self._engine = self._runtime = None
        cuda_device.call("cudaStreamDestroy", self.stream)
