"""TensorRT (10 and later) and TensorRT-RTX on CUDA device 0, through one code path. Opens engines, never ONNX files.

An engine is deserialised only after its passport agrees with the bundle, the runtime and the device.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from inference.backends import Backend, Presence, Probs, _cuda
from inference.backends._trt_build import LEVELS, RUNTIMES, Options, build, importable, module_of
from inference.backends._trt_cache import read_cache, runtime_file, write_cache
from inference.backends._trt_watch import logger
from inference.contract import INPUT, Bundle
from inference.errors import DeviceError, InputError
from inference.passport import Passport, check, engine_file

__all__ = ["LEVELS", "PRECISIONS", "RUNTIMES", "Options", "build", "importable", "open_backend", "presence"]

PRECISIONS = ("fp32", "fp16", "int8")


def presence() -> Presence:
    """Say whether a TensorRT and a CUDA device are here."""
    here = importable()
    if not here:
        reason = "neither tensorrt nor tensorrt_rtx is installed"
        return Presence(False, "", reason, "pip install tensorrt-rtx-cu13 cuda-python")
    version = ", ".join(f"{name} {module_of(name)[1].__version__}" for name in here)
    if reason := _cuda.absence() or "":
        return Presence(False, version, reason, "python -m inference run BUNDLE --backend ort")
    return Presence(here=True, version=version)


def open_backend(bundle: Bundle, precision: str, *, batch: int = 1, threads: int | None = None) -> TrtBackend:
    """Open the engine of `precision` for this device, building it first when there is none that fits.

    Raises InputError when no CUDA device is here, or the engine can neither be opened nor built.
    """
    device = _cuda.device()
    found = [name for name in importable() if engine_file(bundle, precision, name, device.sm).is_file()]
    runtime, trt = module_of(found[0] if found else None)
    path = engine_file(bundle, precision, runtime, device.sm)
    facts = {"precision": precision, "runtime": runtime, "version": trt.__version__, "sm": device.sm}
    try:
        passport = check(bundle, path, **facts)
        if max(passport.batches) < batch:
            raise InputError(f"{path} was built for batches {passport.batches}, {batch} regions are needed")
    except InputError as error:
        print(f"building {path.name}: {error}", file=sys.stderr)
        options = Options(batches=(1,) if batch == 1 else (1, batch))
        path = build(bundle, precision, runtime=runtime, sm=device.sm, options=options)
        passport = check(bundle, path, **facts)
    return TrtBackend(bundle, path, passport, trt, device)


class TrtBackend(Backend):
    """One execution context a batch size, pinned buffers, its own stream."""

    def __init__(self, bundle: Bundle, path: Path, passport: Passport, trt: Any, device: _cuda.Device) -> None:
        self._passport, self._device = passport, device
        log = logger(trt)
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise InputError(f"{path} does not load ({(log.errors or ['no reason given'])[0]}): remove it")
        self._stream = _cuda.call("cudaStreamCreate")
        rows = max(passport.batches)
        size = bundle.geometry.size_px
        self._frames = _cuda.Buffer((rows, size, size, 3), np.uint8)
        self._probs = _cuda.Buffer((rows, len(bundle.classes)), np.float32)
        self.input_nhwc = self._frames.array
        self._contexts = self._make_contexts(path)
        # every count of regions runs on the smallest profile that holds it
        self._batch_of = {n: min(b for b in passport.batches if b >= n) for n in range(1, rows + 1)}

    def _make_contexts(self, path: Path) -> dict[int, Any]:
        """Make a context a batch size. TensorRT-RTX compiles its kernels here, unless it finds those of last time."""
        started = perf_counter()
        self._config, kernels, kept = None, None, read_cache(runtime_file(path), self._passport.engine_sha256)
        if hasattr(self._engine, "create_runtime_config"):
            config = self._engine.create_runtime_config()
            if hasattr(config, "create_runtime_cache"):  # TensorRT's own config has none: its engine holds the kernels
                kernels = config.create_runtime_cache()
                if kept:
                    kernels.deserialize(kept)
                config.set_runtime_cache(kernels)
                self._config = config
        contexts = {n: self._context(profile, n) for profile, n in enumerate(self._passport.batches)}
        self._kernels, self._kept, self._path = kernels, kept, path
        if kernels is not None:
            how = "found" if kept else "compiled"
            print(f"{path.name}: kernels {how} in {perf_counter() - started:.2f} s", file=sys.stderr)
        self._keep_kernels()
        return contexts

    def _keep_kernels(self) -> None:
        """Keep the kernels compiled so far beside the engine; on a car's read-only disk they are compiled again."""
        compiled = self._kept if self._kernels is None else bytes(self._kernels.serialize())
        if compiled != self._kept:
            with suppress(OSError):
                write_cache(runtime_file(self._path), self._passport.engine_sha256, compiled)
            self._kept = compiled

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
            raise DeviceError(f"{self._passport.engine} failed to run: build it again for this device")
        self._probs.download(n, self._stream)
        _cuda.call("cudaStreamSynchronize", self._stream)
        probs: Probs = self._probs.array[:n]
        return probs

    def describe(self) -> dict[str, Any]:
        """Say which engine runs on which device."""
        passport = self._passport
        return {
            "backend": "trt",
            "runtime": passport.runtime,
            "version": passport.version,
            "device": self._device.name,
            "precision": passport.precision,
            "file": passport.engine,
            "threads": 1,
        }

    def close(self) -> None:
        """Free contexts, engine, buffers and stream, in that order."""
        self._keep_kernels()
        self._contexts.clear()
        del self._kernels, self._config
        del self._engine, self._runtime
        self._frames.free()
        self._probs.free()
        _cuda.call("cudaStreamDestroy", self._stream)
