"""A TensorRT that builds nothing: what a device would be asked for, for tests where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


class Cache:
    def __init__(self, kept: bytes = b"") -> None:
        self.kept = kept

    def serialize(self) -> bytes:
        return self.kept + b"+timed"

    def deserialize(self, kept: bytes) -> None:
        self.kept = kept


class Config:
    def __init__(self) -> None:
        self.limits: dict[object, int] = {}
        self.profiles: list[object] = []
        self.cleared: list[object] = []
        self.progress_monitor = None

    def set_memory_pool_limit(self, pool, size):
        self.limits[pool] = size

    def clear_flag(self, flag):
        self.cleared.append(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shape)

    def create_timing_cache(self, kept):
        return Cache(kept)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self.cache = cache

    def get_timing_cache(self):
        return self.cache


class Profile:
    def set_shape(self, name, low, best, high):
        assert low == best == high
        self.shape = low


class RuntimeConfig:
    def create_runtime_cache(self):
        return Cache()

    def set_runtime_cache(self, cache):
        self.cache = cache


class Engine:
    def __init__(self, module):
        if module.compiles_late:
            self.create_runtime_config = RuntimeConfig
        self.contexts: list[tuple] = module.contexts

    def create_engine_inspector(self):
        return SimpleNamespace(get_engine_information=lambda layout: "Conv_0 int8")

    def create_execution_context(self, *config):
        self.contexts.append(config)
        nothing = lambda *_: None  # noqa: E731
        return SimpleNamespace(
            set_optimization_profile_async=nothing, set_input_shape=nothing, set_tensor_address=nothing
        )


class Builder:
    def __init__(self, module, log):
        self.module = module

    def create_network(self, flags):
        self.module.network_flags = flags
        return SimpleNamespace(num_layers=0)

    def create_builder_config(self):
        self.module.config = Config()
        return self.module.config

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        monitor = config.progress_monitor
        monitor.phase_start("timing", None, 2)
        self.module.went_on = [monitor.step_complete("timing", 0)]
        monitor.phase_finish("timing")
        return b"an engine"


def make(version: str, name: str = "tensorrt", *, typed_flag: bool = True, compiles_late: bool = False):
    """Return a module of that version. typed_flag: TensorRT 11 may have none. compiles_late: as TensorRT-RTX."""
    module = SimpleNamespace(
        __name__=name,
        __version__=version,
        compiles_late=compiles_late,
        contexts=[],
        ILogger=type("ILogger", (), {"Severity": SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)}),
        IProgressMonitor=object,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1) if typed_flag else SimpleNamespace(),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        BuilderFlag=SimpleNamespace(TF32="tf32"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        LayerInformationFormat=SimpleNamespace(ONELINE="oneline"),
        LayerType=SimpleNamespace(CONVOLUTION=1, MATRIX_MULTIPLY=2, SHUFFLE=3, CAST=4, IDENTITY=5, CONSTANT=6,
                                  DEQUANTIZE=7),
        OnnxParser=lambda network, log: SimpleNamespace(parse_from_file=lambda path: True),
    )  # fmt: skip
    module.Builder = lambda log: Builder(module, log)
    module.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda data: Engine(module))
    return module


class Buffer:
    """Host memory alone."""

    device = 0

    def __init__(self, shape, dtype):
        self.array = np.zeros(shape, dtype)

    def free(self):
        self.array = None
