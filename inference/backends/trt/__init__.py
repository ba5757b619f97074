"""TensorRT (10 and later) and TensorRT-RTX on CUDA device 0, through one code path. Opens engines, never ONNX files.

An engine is deserialised only after its manifest agrees with the bundle, the runtime and the device.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from core.bundle.contract import INPUT, Bundle, Probs
from core.bundle.engine_manifest import EngineManifest, build_hint, check, find_engine, load
from core.errors import DeviceError, InputError
from inference.backends import Availability, Backend, UnavailableError
from inference.backends.trt import device_memory
from inference.backends.trt.build_progress import logger
from inference.backends.trt.engine_build import LEVELS, RUNTIMES, Options, build, importable, module_of, serving
from inference.backends.trt.kernel_cache import read_cache, runtime_file, write_cache

log = logging.getLogger(__name__)

__all__ = ["LEVELS", "PRECISIONS", "RUNTIMES", "Options", "build", "importable"]

PRECISIONS = ("fp32", "fp16", "int8")
CPU = "python -m inference run BUNDLE --backend ort"


def availability() -> Availability:
    """Say whether a CUDA device is here and a TensorRT that has kernels for it."""
    if not importable():
        reason = "neither tensorrt nor tensorrt_rtx is installed"
        return Availability(False, "", reason, "pip install tensorrt-rtx-cu13 cuda-python")
    if reason := device_memory.absence() or "":
        return Availability(False, _versions(importable()), reason, CPU)
    device = device_memory.device()
    if able := serving(device.sm):
        return Availability(available=True, version=_versions(able))
    return Availability(False, "", f"{_versions(importable())} has no kernels for sm{device.sm} ({device.name})", CPU)


def _versions(names: Sequence[str]) -> str:
    return ", ".join(f"{name} {module_of(name).__version__}" for name in names)


def open_backend(bundle: Bundle, precision: str, *, batch: int = 1, threads: int | None = None) -> TrtBackend:
    """Open the engine of `precision` for this device. Nothing is built and nothing is written.

    Raises UnavailableError that names the command which builds it, when there is none that fits.
    """
    device = device_memory.device()
    runtime, path = _find(bundle, precision, device)
    if path is None:
        again = build_hint(bundle, precision, device.sm, (batch,) if batch > max(Options.batches) else ())
        raise UnavailableError(f"{bundle.path} holds no engine of {precision} for {device.name}: {again}")
    trt = module_of(runtime)
    try:
        manifest = check(bundle, path, precision=precision, runtime=runtime, version=trt.__version__, sm=device.sm)
    except InputError as error:
        raise UnavailableError(str(error)) from None
    if max(manifest.batches) < batch:
        again = build_hint(bundle, precision, device.sm, (*manifest.batches, batch))
        raise UnavailableError(f"{path} holds {max(manifest.batches)} regions at most, {batch} are needed: {again}")
    return TrtBackend(bundle, path, manifest, trt, device)


def build_missing(bundle: Bundle, precision: str, batches: Sequence[int]) -> None:
    """Build the engine for the device that is here, where none fits that was built for all of these batch sizes.

    Raises InputError or CheckError as `build` does.
    """
    device = device_memory.device()
    runtime, path = _find(bundle, precision, device)
    wanted = {*batches, *Options.batches}
    if path is not None:
        with suppress(InputError):
            wanted |= set(load(path, "").batches)
            version = module_of(runtime).__version__
            fit = check(bundle, path, precision=precision, runtime=runtime, version=version, sm=device.sm)
            if set(batches) <= set(fit.batches):
                return
    build(bundle, precision, runtime=runtime, sm=device.sm, options=Options(tuple(sorted(wanted))))


def _find(bundle: Bundle, precision: str, device: device_memory.Device) -> tuple[str, Path | None]:
    """Return the runtime for this device and its engine: the first runtime that has one, else the first that serves."""
    able = serving(device.sm)
    if not able:
        raise UnavailableError(f"{_versions(importable())} has no kernels for sm{device.sm} ({device.name}): {CPU}")
    engines = {runtime: find_engine(bundle, precision, runtime, device.sm) for runtime in able}
    return next(((runtime, path) for runtime, path in engines.items() if path), (able[0], None))


class TrtBackend(Backend):
    """One execution context a batch size, pinned buffers, its own stream."""

    def __init__(
        self, bundle: Bundle, path: Path, manifest: EngineManifest, trt: Any, device: device_memory.Device
    ) -> None:
        self._manifest, self._device = manifest, device
        log = logger(trt)
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise InputError(f"{path} does not load ({(log.errors or ['no reason given'])[0]}): remove it")
        self._stream = device_memory.call("cudaStreamCreate")
        rows = max(manifest.batches)
        size = bundle.geometry.size_px
        self._frames = device_memory.Buffer((rows, size, size, 3), np.uint8)
        self._probs = device_memory.Buffer((rows, len(bundle.classes)), np.float32)
        self.input_nhwc = self._frames.array
        self._contexts = self._make_contexts(path)
        # every count of regions runs on the smallest profile that holds it
        self._batch_of = {n: min(b for b in manifest.batches if b >= n) for n in range(1, rows + 1)}

    def _make_contexts(self, path: Path) -> dict[int, Any]:
        """Make a context a batch size. TensorRT-RTX compiles its kernels here, unless it finds those of last time."""
        started = perf_counter()
        self._config, kernels, kept = None, None, read_cache(runtime_file(path), self._manifest.engine_sha256)
        if hasattr(self._engine, "create_runtime_config"):
            config = self._engine.create_runtime_config()
            if hasattr(config, "create_runtime_cache"):  # TensorRT's own config has none: its engine holds the kernels
                kernels = config.create_runtime_cache()
                if kept:
                    kernels.deserialize(kept)
                config.set_runtime_cache(kernels)
                self._config = config
        contexts = {n: self._context(profile, n) for profile, n in enumerate(self._manifest.batches)}
        self._kernels, self._kept, self._path = kernels, kept, path
        if kernels is not None:
            how = "found" if kept else "compiled (`python -m inference verify` keeps them)"
            log.info(f"{path.name}: kernels {how} in {perf_counter() - started:.2f} s")
        return contexts

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that the engine has kernels of its own for."""
        return self._manifest.batches

    @property
    def proved(self) -> bool:
        """Whether the manifest says that the golden frames held on this file, device, driver and runtime version."""
        known = self._manifest.proved_on or {}
        return {key: value for key, value in known.items() if key != "date"} == self._here()

    def _here(self) -> dict[str, Any]:
        return {**self._device.as_json(), "runtime": self._manifest.runtime, "version": self._manifest.version}

    def mark_proved(self) -> None:
        """Write into the manifest that the golden frames held here, and keep the kernels compiled so far.

        On a read-only disk neither is kept, with a warning.
        """
        try:
            if not self.proved:
                date = datetime.now(timezone.utc).isoformat(timespec="seconds")
                proved = self._manifest.proved({**self._here(), "date": date})
                proved.save(self._path.parent)
                self._manifest = proved
            if self._kernels is not None and (compiled := bytes(self._kernels.serialize())) != self._kept:
                write_cache(runtime_file(self._path), self._manifest.engine_sha256, compiled)
                self._kept = compiled
        except OSError as error:
            log.warning(f"{self._path.parent} cannot be written ({error.strerror}): no proof kept")

    def _context(self, profile: int, batch: int) -> Any:
        asked = () if self._config is None else (self._config,)
        context = self._engine.create_execution_context(*asked)
        context.set_optimization_profile_async(profile, int(self._stream))
        context.set_input_shape(INPUT["name"], (batch, *self.input_nhwc.shape[1:]))
        context.set_tensor_address(INPUT["name"], self._frames.device)
        context.set_tensor_address(INPUT["output"], self._probs.device)
        return context

    def infer(self, n: int) -> Probs:
        """Run the first `n` rows; return a view, float32 (n, classes)."""
        self._frames.upload(n, self._stream)
        if not self._contexts[self._batch_of[n]].execute_async_v3(int(self._stream)):
            raise DeviceError(f"{self._manifest.engine} failed to run: build it again for this device")
        self._probs.download(n, self._stream)
        device_memory.call("cudaStreamSynchronize", self._stream)
        probs: Probs = self._probs.array[:n]
        return probs

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
        """Free contexts, engine, buffers and stream, in that order."""
        if self._engine is None:
            return
        self._contexts.clear()
        self._kernels = self._config = None
        self._engine = self._runtime = None
        self._frames.free()
        self._probs.free()
        device_memory.call("cudaStreamDestroy", self._stream)
