"""A TensorRT whose engines are the ONNX file, its shapes and the profiles, run by ONNX Runtime without a device.

`put_here` puts it here with a device. `builds` counts what was built.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime

from inference.backends.trt import build_progress, runtimes
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
    monkeypatch.setattr(runtimes, "import_runtime", there.__getitem__)
    monkeypatch.setattr(runtimes, "installed_runtimes", lambda: list(there))
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
        self.engine, self.buffers, self.shapes, self.warm = engine, {}, {}, False
        self.replays_itself = config is not None and config.cuda_graph_strategy == WHOLE

    def set_optimization_profile_async(self, profile, stream):
        self.batch = self.engine.batches[profile]

    def set_input_shape(self, name, shape):
        fixed = self.engine.shapes[name]
        assert all(side in (wanted, -1) for side, wanted in zip(fixed, shape, strict=True))
        assert -1 not in fixed or shape[0] == self.batch
        self.shapes[name] = shape

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
        feeds = {name: self.buffers[name][: shape[0]] for name, shape in self.shapes.items()}
        for name, answer in zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True):
            self.buffers[name][: len(answer)] = answer + self.engine.module.drift


class Engine:
    def __init__(self, module, data):
        if module.compiles_late:
            self.create_runtime_config = RuntimeConfig
        self.module, self.contexts = module, module.contexts
        facts, onnx = data.removeprefix(HEADER).split(b"\n", 1)
        self.shapes, self.batches = json.loads(facts)["shapes"], json.loads(facts)["batches"] or [1]
        self.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        values = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.kinds = {value.name: value.type[7:-1] for value in values}
        self.num_io_tensors = len(self.shapes)

    def get_tensor_name(self, i):
        return list(self.shapes)[i]

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def get_tensor_dtype(self, name):
        return self.kinds[name]

    def get_tensor_mode(self, name):
        return "output" if name in self.outputs else "input"

    def create_engine_inspector(self):
        return SimpleNamespace(get_engine_information=lambda layout: "Conv_0 int8")

    def create_execution_context(self, *config):
        self.contexts.append(config)
        return Context(self, *config or (None,))


class Value:
    """An input or output of a parsed network. The shapes of the outputs follow from those of the inputs."""

    def __init__(self, network, info):
        self.network, self.info, self.name = network, info, info.name

    @property
    def shape(self):
        made = onnx.shape_inference.infer_shapes(self.network.model, data_prop=True).graph
        (info,) = [value for value in (*made.input, *made.output) if value.name == self.name]
        return [side.dim_value if side.HasField("dim_value") else -1 for side in info.type.tensor_type.shape.dim]

    @shape.setter
    def shape(self, sides):
        for dim, side in zip(self.info.type.tensor_type.shape.dim, sides, strict=True):
            if side != -1:
                dim.dim_value = side


class Network:
    num_layers = 0

    def parse(self, path):
        self.model = onnx.load(path)
        graph = self.model.graph
        self.inputs = [Value(self, info) for info in graph.input]
        self.outputs = [Value(self, info) for info in graph.output]
        self.num_inputs, self.num_outputs = len(self.inputs), len(self.outputs)
        for info in graph.output:  # they are inferred anew from the inputs
            for side in info.type.tensor_type.shape.dim:
                if not side.HasField("dim_value"):
                    side.Clear()

    def get_input(self, i):
        return self.inputs[i]

    def get_output(self, i):
        return self.outputs[i]

    def shapes(self):
        return {value.name: list(value.shape) for value in (*self.inputs, *self.outputs)}


class Builder:
    def __init__(self, module, log):
        self.module = module

    def create_network(self, flags):
        self.module.network_flags = flags
        return Network()

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
        batches = [shape[0] for shape in config.profiles]
        self.module.builds.append(",".join(map(str, batches)))
        facts = {"batches": batches, "shapes": network.shapes()}
        return HEADER + json.dumps(facts).encode() + b"\n" + self.module.onnx


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
        TensorIOMode=SimpleNamespace(INPUT="input"),
        nptype=lambda kind: np.dtype({"float": "float32"}.get(kind, kind)).type,
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

    def parse(network, path):
        with open(path, "rb") as stream:
            module.onnx = stream.read()
        network.parse(path)
        return True

    module.OnnxParser = lambda network, log: SimpleNamespace(parse_from_file=lambda path: parse(network, path))
    module.Builder = lambda log: Builder(module, log)
    module.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda data: Engine(module, data))
    return module
