"""TensorRT (10 and later) and TensorRT-RTX on CUDA device 0, through one code path. Opens engines, never ONNX files.

An engine is deserialized only after its manifest agrees with the bundle, the runtime and the device. Each batch size is
replayed as one CUDA graph: TensorRT-RTX captures it itself, TensorRT's stream is captured here.

Speed not measured: no GPU was at hand; `make gpu-check` measures it. Built only: 36 of 36 engines of the three own
networks for SM75, 86, 89 and 120 with TensorRT-RTX 1.7.1 (docs/results/2026-11-24-engines.md).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from core import plugins
from core.bundle.contract import INPUT, Bundle, Probs
from core.bundle.engine_manifest import EngineManifest, build_hint, check_engine_fits, find_engine, load_manifest
from core.errors import DeviceError, InputError
from inference import cuda_device
from inference.backends import Availability, Backend, UnavailableError
from inference.backends.trt.build_progress import logger
from inference.backends.trt.engine_build import (
    RTX_TARGETS,
    RUNTIMES,
    BuildOptions,
    build,
    check_target,
    import_runtime,
    installed_runtimes,
    supporting_runtimes,
)
from inference.backends.trt.kernel_cache import read_cache, runtime_file, write_cache

log = logging.getLogger(__name__)

__all__ = [
    "PRECISIONS",
    "RTX_TARGETS",
    "RUNTIMES",
    "BuildOptions",
    "Options",
    "build",
    "check_target",
    "installed_runtimes",
]

PRECISIONS = ("fp32", "fp16", "int8")
CPU = "python -m inference run BUNDLE --backend ort"


@dataclass(frozen=True)
class Options(plugins.PluginOptions):
    """The options of a running engine."""

    cuda_graph: bool = True
    """Replay the engine as one CUDA graph for each batch size; else the host starts every kernel of every frame."""


def availability() -> Availability:
    """Say whether a CUDA device is here and a TensorRT that has kernels for it."""
    if not installed_runtimes():
        reason = "neither tensorrt nor tensorrt_rtx is installed"
        return Availability(False, "", reason, "pip install tensorrt-rtx-cu13 cuda-python")
    if reason := cuda_device.unavailable_reason() or "":
        return Availability(False, _versions(installed_runtimes()), reason, CPU)
    device = cuda_device.device()
    if able := supporting_runtimes(device.sm):
        return Availability(available=True, version=_versions(able))
    return Availability(
        False, "", f"{_versions(installed_runtimes())} has no kernels for sm{device.sm} ({device.name})", CPU
    )


def _versions(names: Sequence[str]) -> str:
    return ", ".join(f"{name} {import_runtime(name).__version__}" for name in names)


def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> TrtBackend:
    """Open the engine of `precision` for this device. Nothing is built and nothing is written.

    Raises UnavailableError that names the command which builds it, when there is none that fits.
    """
    device = cuda_device.device()
    runtime, path = _find(bundle, precision, device)
    if path is None:
        again = build_hint(bundle, precision, device.sm, (batch,) if batch > max(BuildOptions.batches) else ())
        raise UnavailableError(f"{bundle.path} holds no engine of {precision} for {device.name}: {again}")
    trt = import_runtime(runtime)
    try:
        manifest = check_engine_fits(
            bundle, path, precision=precision, runtime=runtime, version=trt.__version__, sm=device.sm
        )
    except InputError as error:
        raise UnavailableError(str(error)) from None
    if max(manifest.batches) < batch:
        again = build_hint(bundle, precision, device.sm, (*manifest.batches, batch))
        raise UnavailableError(f"{path} holds {max(manifest.batches)} regions at most, {batch} are needed: {again}")
    return TrtBackend(bundle, path, manifest, trt, options)


def build_missing(bundle: Bundle, precision: str, batches: Sequence[int]) -> None:
    """Build the engine for the device that is here, where none fits that was built for all of these batch sizes.

    Raises InputError or CheckError as `build` does.
    """
    device = cuda_device.device()
    runtime, path = _find(bundle, precision, device)
    wanted = {*batches, *BuildOptions.batches}
    if path is not None:
        with suppress(InputError):  # an engine that is damaged, or of another version, is built again
            # its batch sizes too: the new engine replaces it
            wanted |= set(load_manifest(path, "").batches)
            version = import_runtime(runtime).__version__
            fit = check_engine_fits(bundle, path, precision=precision, runtime=runtime, version=version, sm=device.sm)
            if set(batches) <= set(fit.batches):
                return
    build(bundle, precision, runtime=runtime, sm=device.sm, options=BuildOptions(tuple(sorted(wanted))))


def _find(bundle: Bundle, precision: str, device: cuda_device.Device) -> tuple[str, Path | None]:
    """Return the runtime for this device and its engine: the first runtime that has one, else the first that serves."""
    able = supporting_runtimes(device.sm)
    if not able:
        raise UnavailableError(
            f"{_versions(installed_runtimes())} has no kernels for sm{device.sm} ({device.name}): {CPU}"
        )
    engines = {runtime: find_engine(bundle, precision, runtime, device.sm) for runtime in able}
    for runtime, path in engines.items():
        if path is not None:
            return runtime, path
    return able[0], None


class TrtBackend(Backend):
    """An engine with an execution context for each batch size, pinned buffers and a stream of its own."""

    def __init__(self, bundle: Bundle, path: Path, manifest: EngineManifest, trt: Any, options: Options) -> None:
        self._manifest, self._device, self._path = manifest, cuda_device.device(), path
        messages = logger(trt)
        self._runtime = trt.Runtime(messages)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise InputError(f"{path} does not load ({(messages.errors or ['no reason given'])[0]}): remove it")
        self._stream = cuda_device.open_stream()
        rows = max(manifest.batches)
        size = bundle.geometry.size_px
        self._frames = cuda_device.PinnedBuffer((rows, size, size, 3), np.uint8)
        self._probs = cuda_device.PinnedBuffer((rows, len(bundle.classes)), np.float32)
        self.input_nhwc = self._frames.array
        self._contexts = self._make_contexts(trt, options.cuda_graph)
        # TensorRT-RTX has captured each context already, in `_configure`; TensorRT leaves the capture to its caller
        by_stream = options.cuda_graph and not hasattr(self._config, "cuda_graph_strategy")
        self._graphs = self._capture_all() if by_stream else {}
        # every count of regions runs on the smallest profile that holds it
        self._batch_of = {n: min(b for b in manifest.batches if b >= n) for n in range(1, rows + 1)}

    def _make_contexts(self, trt: Any, graph: bool) -> dict[int, Any]:
        """Make a context for each batch size. TensorRT-RTX compiles its kernels here, unless the cache holds them."""
        started = perf_counter()
        self._config: Any = None
        self._kernels: Any = None
        self._kept = read_cache(runtime_file(self._path), self._manifest.engine_sha256)
        if hasattr(self._engine, "create_runtime_config"):
            self._configure(trt, self._engine.create_runtime_config(), graph)
        # the build adds the profiles in the order of the batch sizes, and an engine knows them by their number
        contexts = {n: self._context(profile, n) for profile, n in enumerate(self._manifest.batches)}
        if self._kernels is not None:
            how = "found" if self._kept else "compiled (`python -m inference verify` keeps them)"
            log.info(f"{self._path.name}: kernels {how} in {perf_counter() - started:.2f} s")
        return contexts

    def _configure(self, trt: Any, config: Any, graph: bool) -> None:
        """Fill the runtime configuration. TensorRT's own has no kernel cache and no graphs: it is left unused."""
        if not hasattr(config, "create_runtime_cache"):
            return
        self._config, self._kernels = config, config.create_runtime_cache()
        if self._kept:
            self._kernels.deserialize(self._kept)
        config.set_runtime_cache(self._kernels)
        if graph and hasattr(config, "cuda_graph_strategy"):
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE

    def _capture_all(self) -> dict[int, Any]:
        """Capture the work of each batch size; one that cannot be captured is run kernel by kernel, with a warning."""
        graphs = {}
        for batch, context in self._contexts.items():
            # the first run allocates, which no capture allows
            self._enqueue(context)
            cuda_device.call("cudaStreamSynchronize", self._stream)
            try:
                graphs[batch] = cuda_device.capture(self._stream, partial(context.execute_async_v3, int(self._stream)))
            except DeviceError as error:
                log.warning(f"{self._path.name}: no CUDA graph at batch {batch} ({error})")
        return graphs

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that the engine has kernels of its own for."""
        return self._manifest.batches

    @property
    def proved(self) -> bool:
        """Whether the golden frames passed on this file, device, driver and runtime version, as the manifest says."""
        # the date is left out: every other key must be as it is here, now
        known = self._manifest.proved_on or {}
        return {key: value for key, value in known.items() if key != "date"} == self._here()

    def _here(self) -> dict[str, Any]:
        return {**self._device.as_json(), "runtime": self._manifest.runtime, "version": self._manifest.version}

    def mark_proved(self) -> None:
        """Write into the manifest that the golden frames passed here, and keep the kernels compiled so far.

        On a read-only disk neither is kept, with a warning.
        """
        try:
            if not self.proved:
                date = datetime.now(timezone.utc).isoformat(timespec="seconds")
                proved = self._manifest.proved({**self._here(), "date": date})
                proved.save(self._path.parent)
                self._manifest = proved  # only after the file was written: a proof that is not kept is none
            if self._kernels is not None and (compiled := bytes(self._kernels.serialize())) != self._kept:
                write_cache(runtime_file(self._path), self._manifest.engine_sha256, compiled)
                self._kept = compiled
        except OSError as error:
            log.warning(f"{self._path.parent} cannot be written ({error.strerror}): no proof kept")

    def _context(self, profile: int, batch: int) -> Any:
        config = () if self._config is None else (self._config,)
        context = self._engine.create_execution_context(*config)
        context.set_optimization_profile_async(profile, int(self._stream))
        context.set_input_shape(INPUT["name"], (batch, *self.input_nhwc.shape[1:]))
        # all contexts share one pair of buffers, since only one of them runs at a time
        context.set_tensor_address(INPUT["name"], self._frames.device)
        context.set_tensor_address(INPUT["output"], self._probs.device)
        return context

    def infer(self, n: int) -> Probs:
        """Run the first `n` rows; return a view, float32 (n, classes)."""
        self._frames.upload(n, self._stream)
        batch = self._batch_of[n]
        if batch in self._graphs:
            cuda_device.call("cudaGraphLaunch", self._graphs[batch], self._stream)
        else:
            self._enqueue(self._contexts[batch])
        self._probs.download(n, self._stream)
        cuda_device.call("cudaStreamSynchronize", self._stream)
        probs: Probs = self._probs.array[:n]
        return probs

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(int(self._stream)):
            raise DeviceError(f"{self._manifest.engine} failed to run: build it again for this device")

    def describe(self) -> dict[str, Any]:
        """Say which engine runs on which device."""
        manifest = self._manifest
        return {
            "backend": "trt",
            "runtime": manifest.runtime,
            "version": manifest.version,
            "device": self._device.name,
            "precision": manifest.precision,
            "file": manifest.engine,
            "threads": 1,
        }

    def close(self) -> None:
        """Free graphs, contexts, engine, buffers and stream, in that order."""
        if self._engine is None:
            return
        # a graph holds the addresses of its context's buffers, and a context belongs to its engine
        for graph in self._graphs.values():
            cuda_device.call("cudaGraphExecDestroy", graph)
        self._graphs.clear()
        self._contexts.clear()
        self._kernels = self._config = None
        self._engine = self._runtime = None
        self._frames.free()
        self._probs.free()
        cuda_device.call("cudaStreamDestroy", self._stream)
