"""A TensorRT whose engines are the ONNX file and the profiles, run by ONNX Runtime: for tests where there is no device.

`put_here` puts it here with a device. `builds` counts what was built.
"""

from __future__ import annotations

from types import SimpleNamespace

import onnxruntime

from inference.backends import trt
from inference.backends.trt import build_progress, engine_build
from tests.inference.fake_cuda import STREAM, Buffer, put_device

HEADER = b"engine "
WHOLE = "whole graph capture"


def put_here(monkeypatch, *modules, sm=87):
    """Put these fake runtimes and a device of one compute capability here."""
    there = {module.__name__: module for module in modules}
    monkeypatch.setattr(build_progress, "_loggers", {})
    cuda = put_device(monkeypatch, sm)
    for module in modules:
        module.cuda = cuda
    for place in (engine_build, trt):
        monkeypatch.setattr(place, "import_runtime", there.__getitem__)
        monkeypatch.setattr(place, "installed_runtimes", lambda: list(there))
    return modules[0] if modules else None


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

    def set_compute_capability(self, capability, index):
        self.capability = capability

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
    cuda_graph_strategy = "disabled"

    def create_runtime_cache(self):
        return Cache()

    def set_runtime_cache(self, cache):
        self.cache = cache


class Context:
    """Runs the rows of a whole profile, as a static shape does."""

    def __init__(self, engine, config):
        self.engine, self.buffers, self.warm = engine, {}, False
        self.replays_itself = config is not None and config.cuda_graph_strategy == WHOLE

    def set_optimization_profile_async(self, profile, stream):
        self.batch = self.engine.batches[profile]

    def set_input_shape(self, name, shape):
        assert shape[0] == self.batch

    def set_tensor_address(self, name, address):
        self.buffers[name] = Buffer.at[address].memory

    def execute_async_v3(self, stream):
        module = self.engine.module
        assert stream == STREAM
        capturing = module.cuda.recorded is not None
        if module.fails or (capturing and (module.compiles_late or not self.warm or self.batch in module.uncapturable)):
            return False
        self.warm = True
        module.cuda.submit(self.compute)
        return True

    def compute(self):
        self.engine.module.ran.append(self.batch)
        rows = {"frames": self.buffers["frames"][: self.batch]}
        self.buffers["probs"][: self.batch] = self.engine.session.run(None, rows)[0] + self.engine.module.drift


class Engine:
    def __init__(self, module, data):
        if module.compiles_late:
            self.create_runtime_config = RuntimeConfig
        self.module, self.contexts = module, module.contexts
        batches, onnx = data.removeprefix(HEADER).split(b"\n", 1)
        self.batches = [int(n) for n in batches.split(b",")]
        self.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])

    def create_engine_inspector(self):
        return SimpleNamespace(get_engine_information=lambda layout: "Conv_0 int8")

    def create_execution_context(self, *config):
        self.contexts.append(config)
        return Context(self, *config or (None,))


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
        batches = ",".join(str(shape[0]) for shape in config.profiles)
        self.module.builds.append(batches)
        return HEADER + batches.encode() + b"\n" + self.module.onnx


def make(version: str, name: str = "tensorrt", *, typed_flag: bool = True, compiles_late: bool = False):
    """Return a module of that version. typed_flag: TensorRT 11 may have none. compiles_late: as TensorRT-RTX."""
    module = SimpleNamespace(
        __name__=name,
        __version__=version,
        compiles_late=compiles_late,
        contexts=[],
        builds=[],
        ran=[],
        fails=False,
        uncapturable=(),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE=WHOLE),
        drift=0.0,
        ILogger=type("ILogger", (), {"Severity": SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)}),
        IProgressMonitor=object,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1) if typed_flag else SimpleNamespace(),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        BuilderFlag=SimpleNamespace(TF32="tf32"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        LayerInformationFormat=SimpleNamespace(ONELINE="oneline"),
        LayerType=SimpleNamespace(CONVOLUTION=1, MATRIX_MULTIPLY=2, SHUFFLE=3, CAST=4, IDENTITY=5, CONSTANT=6,
                                  DEQUANTIZE=7),
        ComputeCapability=SimpleNamespace(__members__={f"SM{sm}": sm for sm in (75, 86, 87)}, SM87=87),
    )  # fmt: skip

    def parse_from_file(path):
        with open(path, "rb") as stream:
            module.onnx = stream.read()
        return True

    module.OnnxParser = lambda network, log: SimpleNamespace(parse_from_file=parse_from_file)
    module.Builder = lambda log: Builder(module, log)
    module.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda data: Engine(module, data))
    return module
