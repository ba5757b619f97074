"""The backends of a GPU on a fake one: graphs, buffers, what is refused, and what a failed opening leaves."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from core.errors import DeviceError, InputError
from core.geometry.detector_config import DetectorFile
from inference import backends
from inference.backends import UnavailableError, open_backend, ort_cuda, trt
from inference.frame.detection.detector import open_detector, open_detector_or_on_cpu
from tests.bundles import make_bundle
from tests.export import fake_trt
from tests.inference import fake_cuda, fake_ort_cuda
from tests.inference.runner.test_region_choice import write_detector

FULL, RTX = "tensorrt", "tensorrt_rtx"


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle", precisions=("fp32", "fp16", "int8"))


@pytest.fixture
def cuda(monkeypatch):
    return fake_cuda.put_device(monkeypatch)


@pytest.fixture
def provider(monkeypatch, cuda):
    return fake_ort_cuda.put_provider(monkeypatch, cuda)


@pytest.fixture(params=[FULL, RTX])
def runtime(request, monkeypatch, bundle):
    """A TensorRT of either kind, with an engine for one and four regions."""
    module = fake_trt.make("11.4.1", request.param, compiles_late=request.param == RTX)
    fake_trt.put_here(monkeypatch, module)
    trt.build(bundle, "fp32", options=trt.BuildOptions((1, 4)))
    return module


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_ort_cuda_replays_one_graph_for_each_batch_size(bundle, provider, precision):
    with open_backend("ort_cuda", bundle, precision, batch=5) as backend:
        assert backend.batch_sizes == (1, 2, 4, 5)
        assert provider.replays == 0
        for n in (1, 2, 3, 5, 1):
            backend.input_nhwc[:] = n
            assert np.isfinite(backend.infer(n)).all()
        assert provider.replays == 5, "each size was captured as it was opened"
    (asked,) = provider.opened
    assert (asked["enable_cuda_graph"], asked["use_tf32"]) == ("1", "0"), "fp32 stays fp32"


@pytest.mark.parametrize("graph", ["true", "false"])
def test_ort_cuda_refuses_a_node_on_the_cpu_by_name_and_leaves_nothing(bundle, provider, cuda, graph):
    provider.on_host = {"ReduceMean"}
    with pytest.raises(UnavailableError, match=r"run nodes of .*fp32.onnx on the CPU \(.*\(ReduceMean\); 1 in all\)"):
        open_backend("ort_cuda", bundle, "fp32", options=[f"cuda_graph={graph}"])
    assert (cuda.open, fake_cuda.Buffer.at) == (0, {})


def test_ort_cuda_refuses_int8(bundle, provider):
    with pytest.raises(InputError, match="ort_cuda has no precision 'int8': choose from fp32, fp16"):
        open_backend("ort_cuda", bundle, "int8")


def test_ort_cuda_never_opens_on_the_cpu_in_silence(bundle, provider):
    provider.loads = False
    with pytest.raises(UnavailableError, match=r"opens .* without CUDA: pip install"):
        open_backend("ort_cuda", bundle, "fp32")


def test_ort_cuda_runs_without_a_graph_where_only_that_is_refused(bundle, provider, capsys):
    provider.no_graph = "a node allocates"
    with open_backend("ort_cuda", bundle, "fp32") as backend:
        backend.infer(1)
    assert provider.replays == 0
    assert "model.fp32.onnx: no CUDA graph (a node allocates)" in capsys.readouterr().err


def test_ort_cuda_names_the_library_that_is_missing_and_says_nothing_on_stdout(monkeypatch, provider, capsys):
    def preload():
        print("Failed to load libcurand.so.10: libcurand.so.10: cannot open shared object file")

    monkeypatch.undo()
    assert ort_cuda._load_libraries(SimpleNamespace(preload_dlls=preload)).startswith("libcurand.so.10: ")
    assert not ort_cuda._load_libraries(SimpleNamespace(preload_dlls=lambda: print("all there")))
    assert capsys.readouterr().out == ""


def test_ort_cuda_runs_a_detector_by_its_own_names_and_replays_one_graph(tmp_path, provider, cuda):
    detector = open_detector(DetectorFile(write_detector(tmp_path / "d.onnx")), "ort_cuda", None)
    found = [detector.detect(np.full((64, 96, 3), level, np.uint8)) for level in (0, 200)]
    assert [boxes.boxes_n4.tolist() for boxes in found] == [[[10, 10, 40, 40]]] * 2
    assert (detector.backend, provider.replays) == ("ort_cuda", 2), "captured as it was opened"
    detector.close()
    assert (cuda.open, fake_cuda.Buffer.at) == (0, {})


def test_what_ort_cuda_gives_is_the_callers_own(tmp_path, provider):
    with backends.open_network("ort_cuda", brightness(tmp_path / "b.onnx")) as network:
        dark, bright = (network.run({"images": np.full((1, 3, 4, 4), level, np.float32)}) for level in (1, 5))
    assert (dark["mean"].tolist(), bright["mean"].tolist()) == ([1], [5])


def brightness(path, height=4):
    """Write a network that gives the mean of its picture."""
    nodes = [
        onnx.helper.make_node("ReduceMean", ["images"], ["all"], keepdims=0),
        onnx.helper.make_node("Reshape", ["all", "one"], ["mean"]),
    ]
    count = onnx.numpy_helper.from_array(np.array([1]), "one")
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, height, 4])
    mean = onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph(nodes, "brightness", [images], [mean], [count])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize("problem", ["a node on the host", "no fixed shape", "no engine"])
def test_a_detector_that_a_gpu_does_not_run_is_on_the_cpu_and_it_is_said(
    tmp_path, monkeypatch, provider, cuda, capsys, problem
):
    file, backend = write_detector(tmp_path / "d.onnx"), "trt" if problem == "no engine" else "ort_cuda"
    if problem == "a node on the host":
        provider.on_host = {"Mul"}
    if problem == "no fixed shape":
        model = onnx.load(file)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        onnx.save(model, file)
    if problem == "no engine":
        fake_trt.put_here(monkeypatch, fake_trt.make("11.4.1"))
    detector = open_detector_or_on_cpu(DetectorFile(file), backend, 1)
    assert detector.backend == "ort"
    assert detector.detect(np.zeros((64, 96, 3), np.uint8)).boxes_n4.tolist() == [[10, 10, 40, 40]]
    said = capsys.readouterr().err
    assert said.count("the detector runs on the CPU, on ort (") == 1
    reason = {"a node on the host": "(Mul); 1 in all", "no fixed shape": "images float32 (?, 3, 64, 96)"}
    assert reason.get(problem, f"build it: python -m inference build {file} --backend trt --sm 87") in said
    assert (cuda.open, fake_cuda.Buffer.at) == (0, {})


@pytest.mark.parametrize(
    ("lacking", "reason", "hint"),
    [
        ("provider", "is built without CUDA", "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu"),
        ("report", "does not tell which nodes run on the CPU", "pip install --upgrade"),
        ("device", "there is no CUDA device", "python -m inference run BUNDLE --backend ort"),
        ("library", "libcudnn.so.9: no", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ],
)
def test_ort_cuda_says_what_it_lacks(monkeypatch, provider, lacking, reason, hint):
    if lacking == "provider":
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    elif lacking == "report":
        monkeypatch.setattr(onnxruntime, "InferenceSession", object)
    elif lacking == "device":
        monkeypatch.setattr(
            ort_cuda.cuda_device, "unavailable_reason", lambda: "there is no CUDA device or no driver for it"
        )
    else:
        monkeypatch.setattr(ort_cuda, "_load_libraries", lambda ort: "libcudnn.so.9: no")
    found = backends.availability("ort_cuda")
    assert (found.available, found.version) == (False, onnxruntime.__version__)
    assert reason in found.reason
    assert found.hint.startswith(hint)


def test_an_engine_is_replayed_as_a_graph_of_its_batch_size(bundle, runtime):
    with open_backend("trt", bundle, "fp32", batch=4) as backend:
        launched, runtime.ran[:] = runtime.cuda.launched, []
        for n in (1, 3, 4):
            backend.infer(n)
        assert runtime.ran == [1, 4, 4]
        whole = {context.replays_itself for context in backend._engine._contexts.values()}
        assert (runtime.cuda.launched - launched, whole) == ((3, {False}) if runtime.__name__ == FULL else (0, {True}))


def test_without_graphs_every_frame_is_enqueued(bundle, runtime):
    with open_backend("trt", bundle, "fp32", options=["cuda_graph=false"]) as backend:
        backend.infer(1)
        assert runtime.cuda.launched == 0
        assert not any(context.replays_itself for context in backend._engine._contexts.values())


def test_a_batch_that_cannot_be_captured_is_enqueued_with_a_warning(bundle, runtime, capsys):
    if runtime.__name__ == RTX:
        pytest.skip("it captures by itself")
    runtime.uncapturable = (4,)
    with open_backend("trt", bundle, "fp32", batch=4) as backend:
        runtime.ran.clear()
        backend.infer(1)
        backend.infer(4)
        assert (runtime.cuda.launched, runtime.ran) == (1, [1, 4])
    assert "no CUDA graph at batch 4 (the network refuses to be captured)" in capsys.readouterr().err


def test_an_engine_that_fails_as_it_is_enqueued_is_a_device_error(bundle, runtime):
    with open_backend("trt", bundle, "fp32", options=["cuda_graph=false"]) as backend:
        runtime.fails = True
        with pytest.raises(DeviceError, match="failed to run: build it again for this device"):
            backend.infer(1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_build_of_int8_for_rtx_says_that_its_speed_was_not_measured(bundle, runtime, capsys, precision):
    trt.build(bundle, precision)
    warned = "documents int8 as weight-only; whether it is faster was not measured" in capsys.readouterr().err
    assert warned == ((runtime.__name__, precision) == (RTX, "int8"))
