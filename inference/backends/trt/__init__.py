"""TensorRT (10 and later) and TensorRT-RTX on CUDA device 0, through one code path. Opens engines, never ONNX files.

An engine is deserialized only after its manifest agrees with its ONNX file, the runtime and the device. Each batch size
of a classifier, and the one picture of a detector, is replayed as one CUDA graph: TensorRT-RTX captures it itself,
TensorRT's stream is captured here.

Speed not measured: no GPU was at hand; `make gpu-check` measures it. Built only, with TensorRT-RTX 1.7.1: 36 of 36
engines of the three own networks (docs/results/2026-11-24-engines.md) and those of eight families of detectors
(docs/results/2026-11-26-detector-engines.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import plugins
from core.bundle.contract import INPUT, Bundle, Probs
from core.bundle.engine_manifest import (
    EngineManifest,
    EngineSource,
    build_hint,
    check_engine_fits,
    detector_source,
    find_engine,
    load_manifest,
    source_of,
)
from core.errors import InputError
from core.files import sha256_of_file
from core.geometry.detector_config import DetectorFile
from core.signals import holding_signals
from inference import cuda_device
from inference.backends import Availability, Backend, Network, UnavailableError
from inference.backends.trt import runtimes
from inference.backends.trt.engine_build import BuildOptions, build, build_detector
from inference.backends.trt.onnx_metadata import read_metadata
from inference.backends.trt.open_engine import OpenEngine

__all__ = ["PRECISIONS", "BuildOptions", "Options", "build", "build_detector"]

PRECISIONS = ("fp32", "fp16", "int8")
CPU = "python -m inference run BUNDLE --backend ort"


@dataclass(frozen=True)
class Options(plugins.PluginOptions):
    """The options of a running engine."""

    cuda_graph: bool = True
    """Replay the engine as one CUDA graph for each batch size; else the host starts every kernel of every frame."""


def availability() -> Availability:
    """Return whether a CUDA device is here and a TensorRT that has kernels for it."""
    if not runtimes.installed_runtimes():
        reason = "neither tensorrt nor tensorrt_rtx is installed"
        return Availability(False, "", reason, "pip install tensorrt-rtx-cu13 cuda-python")
    if reason := cuda_device.unavailable_reason() or "":
        return Availability(False, _versions(runtimes.installed_runtimes()), reason, CPU)
    device = cuda_device.device()
    if able := runtimes.supporting_runtimes(device.sm):
        return Availability(available=True, version=_versions(able))
    return Availability(
        False, "", f"{_versions(runtimes.installed_runtimes())} has no kernels for sm{device.sm} ({device.name})", CPU
    )


def _versions(names: Sequence[str]) -> str:
    return ", ".join(f"{name} {runtimes.import_runtime(name).__version__}" for name in names)


@holding_signals()
def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> TrtBackend:
    """Open the engine of `precision` for this device. Nothing is built and nothing is written.

    Raises UnavailableError that names the command which builds it, when there is none that fits.
    """
    source = source_of(bundle, precision)
    path, manifest, trt = _find_fitting(source, batch)
    return TrtBackend(bundle, OpenEngine(path, manifest, trt, cuda_graph=options.cuda_graph))


@holding_signals()
def open_network(path: Path, *, threads: int | None = None) -> TrtNetwork:
    """Open the engine of a detector's ONNX file for this device; threads: of no meaning on a GPU. Nothing is built.

    Raises UnavailableError that names the command which builds it, when there is none that fits.
    """
    engine, manifest, trt = _find_fitting(detector_source(path, sha256_of_file(path)), 1)
    try:
        return TrtNetwork(path, OpenEngine(engine, manifest, trt, cuda_graph=True))
    except InputError as error:  # the CPU can run the file all the same
        raise UnavailableError(str(error)) from None


def build_missing(bundle: Bundle, precision: str, batches: Sequence[int]) -> None:
    """Build the engine for the device that is here, where none fits that was built for all of these batch sizes.

    Raises InputError or CheckError as `build` does.
    """
    source = source_of(bundle, precision)
    device = cuda_device.device()
    runtime, path = _find(source, device)
    wanted = {*batches, *BuildOptions.batches}
    if path is not None:
        with suppress(InputError):  # an engine that is damaged, or of another version, is built again
            # its batch sizes too: the new engine replaces it
            wanted |= set(load_manifest(path, "").batches)
            if set(batches) <= set(_check_fits(source, path, runtime, device).batches):
                return
    build(bundle, precision, runtime=runtime, sm=device.sm, options=BuildOptions(tuple(sorted(wanted))))


def build_missing_detector(file: DetectorFile) -> None:
    """Build the engine of a detector for the device that is here, where none fits. Raises as `build_detector` does."""
    source = detector_source(file.path, sha256_of_file(file.path))
    device = cuda_device.device()
    runtime, path = _find(source, device)
    if path is not None:
        with suppress(InputError):
            built_hw = tuple(_check_fits(source, path, runtime, device).flags["size_hw"])
            # the manifest has none where the file fixes it; where nobody states one, any that was built will do
            if not built_hw or file.size_hw in (None, built_hw):
                return
    build_detector(file, runtime=runtime, sm=device.sm)


def _find(source: EngineSource, device: cuda_device.Device) -> tuple[str, Path | None]:
    """Return the runtime for this device and its engine: the first runtime that has one, else the first that serves."""
    able = runtimes.supporting_runtimes(device.sm)
    if not able:
        raise UnavailableError(
            f"{_versions(runtimes.installed_runtimes())} has no kernels for sm{device.sm} ({device.name}): {CPU}"
        )
    engines = {runtime: find_engine(source, runtime, device.sm) for runtime in able}
    for runtime, path in engines.items():
        if path is not None:
            return runtime, path
    return able[0], None


def _check_fits(source: EngineSource, path: Path, runtime: str, device: cuda_device.Device) -> EngineManifest:
    version = runtimes.import_runtime(runtime).__version__
    return check_engine_fits(source, path, runtime=runtime, version=version, sm=device.sm)


def _find_fitting(source: EngineSource, batch: int) -> tuple[Path, EngineManifest, Any]:
    """Return the engine for this device, its checked manifest and its runtime's module.

    Raises UnavailableError that names the command which builds it, when there is none that fits.
    """
    device = cuda_device.device()
    runtime, path = _find(source, device)
    if path is None:
        again = build_hint(source, device.sm, (batch,) if batch > max(BuildOptions.batches) else ())
        what = source.precision if source.contract else source.onnx.name
        raise UnavailableError(f"{source.onnx.parent} holds no engine of {what} for {device.name}: {again}")
    try:
        manifest = _check_fits(source, path, runtime, device)
    except InputError as error:
        raise UnavailableError(str(error)) from None
    if max(manifest.batches) < batch:
        again = build_hint(source, device.sm, (*manifest.batches, batch))
        raise UnavailableError(f"{path} holds {max(manifest.batches)} regions at most, {batch} are needed: {again}")
    return path, manifest, runtimes.import_runtime(runtime)


class TrtBackend(Backend):
    """A classifier's engine between pinned buffers."""

    def __init__(self, bundle: Bundle, engine: OpenEngine) -> None:
        self._engine = engine
        self._buffers = cuda_device.TensorBuffers()
        batches = engine.manifest.batches
        size = bundle.geometry.size_px
        rows = max(batches)
        try:
            self._frames = self._buffers.add(INPUT["name"], (rows, size, size, 3), np.uint8)
            self._probs = self._buffers.add(INPUT["output"], (rows, len(bundle.classes)), np.float32)
            engine.bind(self._buffers.by_name, {n: {INPUT["name"]: (n, size, size, 3)} for n in batches})
        except BaseException:
            self.close()
            raise
        self.input_nhwc = self._frames.array
        # every count of regions runs on the smallest profile that holds it
        self._batch_of = {n: min(b for b in batches if b >= n) for n in range(1, rows + 1)}

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that the engine has kernels of its own for."""
        return self._engine.manifest.batches

    @property
    def proved(self) -> bool:
        """Whether the golden frames passed on this file, device, driver and runtime version, as the manifest says."""
        return self._engine.proved

    def mark_proved(self) -> None:
        """Write into the manifest that the golden frames passed here, and keep the kernels compiled so far."""
        self._engine.mark_proved()

    def infer(self, n: int) -> Probs:
        """Run the first `n` rows; return a view, float32 (n, classes)."""
        self._frames.upload(n, self._engine.stream)
        self._engine.enqueue(self._batch_of[n])
        self._probs.download(n, self._engine.stream)
        cuda_device.call("cudaStreamSynchronize", self._engine.stream)
        probs: Probs = self._probs.array[:n]
        return probs

    def describe(self) -> dict[str, Any]:
        """Return which engine runs on which device."""
        manifest = self._engine.manifest
        return {
            "backend": "trt",
            "runtime": manifest.runtime,
            "version": manifest.version,
            "device": self._engine.device.name,
            "precision": manifest.precision,
            "file": manifest.engine,
            "threads": 1,
        }

    def close(self) -> None:
        """Free engine and buffers, in that order."""
        self._engine.close()
        self._buffers.free()


class TrtNetwork(Network):
    """A detector's engine; its inputs are copied into pinned buffers."""

    backend = "trt"

    def __init__(self, onnx: Path, engine: OpenEngine) -> None:
        self.file = onnx
        self.metadata = read_metadata(onnx)
        self._engine = engine
        self._buffers = cuda_device.TensorBuffers()
        try:
            self.inputs, self.outputs = engine.tensors()
            for tensor in (*self.inputs, *self.outputs):
                self._buffers.add(tensor.name, tensor.fixed_shape(onnx), np.dtype(tensor.dtype))
            engine.bind(self._buffers.by_name, {1: {tensor.name: tensor.fixed_shape(onnx) for tensor in self.inputs}})
        except BaseException:
            self.close()
            raise

    @property
    def opened(self) -> str:
        """The name of the engine."""
        return self._engine.manifest.engine

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name."""
        self._buffers.upload(feeds, self._engine.stream)
        self._engine.enqueue(1)
        return self._buffers.download([tensor.name for tensor in self.outputs], self._engine.stream)

    def mark_proved(self) -> None:
        """Write into the manifest that the golden frames passed here, and keep the kernels compiled so far."""
        self._engine.mark_proved()

    def close(self) -> None:
        """Free engine and buffers, in that order."""
        self._engine.close()
        self._buffers.free()
