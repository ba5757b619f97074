"""ONNX Runtime's CUDA provider on a fake device: nodes run on the CPU, between device buffers, as graphs where asked.

It refuses what the real one refuses, and has its traps: without `enable_fallback=0` it opens on the CPU instead, and a
captured graph goes on with the buffers of its first run.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime

from inference.backends import ort_cuda
from tests.inference import fake_cuda

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
KNOWN = {"device_id", "user_compute_stream", "enable_cuda_graph", "use_tf32"}
RealSession = onnxruntime.InferenceSession


class Provider:
    """What the fake provider can do, and what it was asked for."""

    def __init__(self, cuda: fake_cuda.Cuda) -> None:
        self.cuda = cuda
        self.on_host: set[str] = set()
        """Operators without a kernel for the device."""
        self.no_graph = ""
        """The reason why the fake captures nothing."""
        self.loads = True
        """Whether its libraries are there."""
        self.opened: list[dict[str, str]] = []
        self.replays = 0


class Session:
    """A session on the device."""

    def __init__(self, provider, path, settings, providers, enable_fallback=1):
        ((name, options),) = providers
        assert name == CUDA
        assert set(options) <= KNOWN
        assert all(isinstance(value, str) for value in options.values())
        assert int(options["user_compute_stream"]) == fake_cuda.STREAM
        provider.opened.append(options)
        self._provider, self._graphs = provider, {} if options["enable_cuda_graph"] == "1" else None
        self._records = settings.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
        self._real = RealSession(path, providers=[CPU])
        self._nodes = onnx.load(path).graph.node
        self._on = CUDA if provider.loads else CPU
        host = [node for node in self._nodes if node.op_type in provider.on_host]
        if self._graphs is not None and (host or provider.no_graph):
            if enable_fallback:
                self._on = CPU
                return
            raise RuntimeError(provider.no_graph or "all compute graph nodes have not been partitioned to the CUDA EP")

    def get_providers(self):
        return [self._on, CPU] if self._on == CUDA else [CPU]

    def get_provider_graph_assignment_info(self):
        if not self._records:
            return []
        groups = {CUDA: [], CPU: []}
        for node in self._nodes:
            groups[CPU if node.op_type in self._provider.on_host else self._on].append(node)
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda nodes=nodes: nodes)
            for name, nodes in groups.items()
            if nodes
        ]

    def get_inputs(self):
        return self._real.get_inputs()

    def get_outputs(self):
        return self._real.get_outputs()

    def get_modelmeta(self):
        return self._real.get_modelmeta()

    def io_binding(self):
        return Binding()

    def run_with_iobinding(self, binding, options):
        graph = options.get_run_config_entry("gpu_graph_id")
        if self._graphs is None or graph not in self._graphs:
            bound = (dict(binding.inputs), dict(binding.outputs))
            if self._graphs is not None:
                self._graphs[graph] = bound
        else:
            self._provider.replays += 1
            bound = self._graphs[graph]
        self._provider.cuda.submit(lambda: self._compute(*bound))
        if options.get_run_config_entry("disable_synchronize_execution_providers") != "1":
            self._provider.cuda.cudaStreamSynchronize(fake_cuda.STREAM)

    def _compute(self, inputs, outputs):
        for memory, value in zip(outputs.values(), self._real.run(list(outputs), inputs), strict=True):
            memory[:] = value


class Binding:
    """The addresses on the device that a session reads and writes, by the names of the network, and nothing else."""

    def __init__(self):
        self.inputs, self.outputs = {}, {}

    def bind_input(self, name, device, index, dtype, shape, address):
        self.inputs[name] = self._memory(device, dtype, shape, address)

    def bind_output(self, name, device, index, dtype, shape, address):
        self.outputs[name] = self._memory(device, dtype, shape, address)

    @staticmethod
    def _memory(device, dtype, shape, address):
        memory = fake_cuda.Buffer.at[address].memory
        assert (device, memory.dtype) == ("cuda", np.dtype(dtype))
        assert shape[1:] == memory.shape[1:]
        assert shape[0] <= len(memory)
        return memory[: shape[0]]


def put_provider(monkeypatch, cuda: fake_cuda.Cuda) -> Provider:
    """Put the provider here; sessions of other providers stay the real ones."""
    provider = Provider(cuda)

    class Either:
        get_provider_graph_assignment_info = None

        def __new__(cls, path, settings=None, providers=(), **more):
            if providers and isinstance(providers[0], tuple):
                return Session(provider, path, settings, providers, **more)
            return RealSession(path, settings, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Either)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort_cuda, "_load_libraries", lambda ort: "")
    return provider
