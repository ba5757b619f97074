"""A detector on TensorRT: its engine is built beside its file, checked before it is loaded, run, proved and packed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bundle.contract import DETECTOR, open_bundle
from core.bundle.engine_manifest import OF_DETECTOR, detector_engines, load_manifest
from core.errors import InputError
from core.geometry.detector_config import DetectorConfig, DetectorFile, DetectorInput
from export.bundle_detector import add, prepare
from inference.backends import UnavailableError, build_missing_detector, open_network, trt
from inference.backends.trt.kernel_cache import read_cache, runtime_file
from inference.backends.trt.onnx_metadata import read_metadata
from inference.commands import build
from inference.commands.run import read_arguments, run_from_args
from inference.frame.detection.detector import open_detector, open_detector_or_on_cpu
from inference.proof.verify import verify
from tests.bundles import make_bundle
from tests.export import fake_trt
from tests.inference import fake_cuda
from tests.inference.backends.test_gpu import FULL, RTX, brightness
from tests.inference.runner.test_region_choice import write_detector

FRAME = np.full((64, 96, 3), 100, np.uint8)
BOX = [[10, 10, 40, 40]]


@pytest.fixture(params=[FULL, RTX])
def runtime(request, monkeypatch):
    """A TensorRT of either kind."""
    return fake_trt.put_here(monkeypatch, fake_trt.make("11.4.1", request.param, compiles_late=request.param == RTX))


@pytest.fixture
def file(tmp_path, runtime):
    return DetectorFile(write_detector(tmp_path / "cars [v2].onnx"))


@pytest.fixture
def bundle(tmp_path, runtime):
    """A bundle with a detector and its golden frames, and an engine of each."""
    made = make_bundle(tmp_path / "bundle", background=None)
    trt.build(made, "fp32")
    frames = [np.random.default_rng(i).integers(60, 200, (64, 96, 3), np.uint8) for i in range(3)]
    add(made.path, prepare(DetectorFile(write_detector(tmp_path / "d.onnx")), frames))
    return open_bundle(made.path)


def engine_of(bundle):
    (engine,) = detector_engines(bundle)
    return engine


def test_it_gives_the_boxes_of_the_onnx_file_and_is_replayed_as_one_graph(file, runtime):
    trt.build_detector(file)
    detector = open_detector(file, "trt", None)
    launched = runtime.cuda.launched
    found = [detector.detect(np.full((64, 96, 3), level, np.uint8)) for level in (0, 200)]
    assert [boxes.boxes_n4.tolist() for boxes in found] == [BOX, BOX]
    assert (detector.backend, detector.config.names) == ("trt", ("car", "tree"))
    (context,) = detector._network._engine._contexts.values()
    assert (runtime.cuda.launched - launched, context.replays_itself) == (
        (2, False) if runtime.__name__ == FULL else (0, True)
    )
    detector.close()
    detector.close()
    assert (runtime.cuda.open, fake_cuda.Buffer.at) == (0, {})


def test_what_it_gives_is_the_callers_own(tmp_path, runtime):
    file = brightness(tmp_path / "b.onnx")
    trt.build_detector(DetectorFile(file))
    with open_network("trt", file) as network:
        dark, bright = (network.run({"images": np.full((1, 3, 4, 4), level, np.float32)}) for level in (1, 5))
    assert (dark["mean"].tolist(), bright["mean"].tolist()) == ([1], [5])


def test_opening_builds_nothing_and_names_the_command(file, runtime, capsys):
    detector = open_detector_or_on_cpu(file, "trt", 1)
    assert (detector.backend, runtime.builds) == ("ort", [])
    assert f"build it: python -m inference build {file.path} --backend trt --sm 87" in capsys.readouterr().err
    assert not (file.path.parent / "engines").exists()


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def other_file(engine, onnx):
    write_detector(onnx, (0, 0, 9, 9, 0.9, 0))


def other_engine(engine, onnx):
    flip(engine)


def other_manifest(engine, onnx):
    flip(engine.with_name(f"{engine.name}.json"))


def no_manifest(engine, onnx):
    engine.with_name(f"{engine.name}.json").unlink()


def other_version(engine, onnx):
    replace(load_manifest(engine, ""), version="9.0").save(engine.parent)


def other_runtime(engine, onnx):
    replace(load_manifest(engine, ""), runtime="tensorrt_ex").save(engine.parent)


def other_device(engine, onnx):
    replace(load_manifest(engine, ""), target="sm75").save(engine.parent)


def of_a_classifier(engine, onnx):
    replace(load_manifest(engine, ""), precision="fp32").save(engine.parent)


CHANGES = {
    other_file: "its ONNX sha256 is",
    other_engine: "its sha256 differs",
    other_manifest: ".engine.json",
    no_manifest: "has no manifest",
    other_version: "its runtime version is 9.0",
    other_runtime: "its file name is",
    other_device: "its file name is",
    of_a_classifier: "its precision is fp32, here it is detector",
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_engine_that_does_not_agree_is_never_loaded_and_the_cpu_runs(file, runtime, monkeypatch, change):
    engine = trt.build_detector(file)
    change(engine, file.path)
    monkeypatch.setattr(runtime, "Runtime", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(UnavailableError, match=CHANGES[change]) as refused:
        open_network("trt", file.path)
    assert f"python -m inference build {file.path} --backend trt" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert open_detector_or_on_cpu(file, "trt", 1).backend == "ort"


def test_an_engine_that_does_not_load_or_bind_leaves_nothing_and_the_cpu_runs(file, runtime, monkeypatch):
    trt.build_detector(file)
    with monkeypatch.context() as patch:
        patch.setattr(fake_trt.Engine, "get_tensor_shape", lambda *_: (1, -1))
        with pytest.raises(UnavailableError, match=r"images float32 \(1, \?\) has no fixed shape"):
            open_network("trt", file.path)

    def nptype(kind):
        raise TypeError(kind)

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "nptype", nptype)
        with pytest.raises(UnavailableError, match="which numpy does not have"):
            open_network("trt", file.path)
    monkeypatch.setattr(fake_trt, "Engine", lambda *_: None)
    assert open_detector_or_on_cpu(file, "trt", 1).backend == "ort"
    assert (runtime.cuda.open, fake_cuda.Buffer.at) == (0, {})


def free(file, *sides, **metadata):
    """Leave sides of the input of a detector's file free."""
    model = onnx.load(file)
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, ("n", "c", "h", "w"), strict=True):
        if name in sides:
            dim.dim_param = name
    onnx.helper.set_model_props(model, {**{prop.key: prop.value for prop in model.metadata_props}, **metadata})
    onnx.save(model, file)
    return file


def built_for(file, *arguments):
    assert build.main([str(file), *arguments]) == 0
    (engine,) = (file.parent / "engines").glob("*.engine")
    return load_manifest(engine, "").flags["size_hw"]


def test_a_free_size_is_that_of_the_settings_else_of_the_metadata_else_of_the_option(file):
    option = ("--backend-option", "size_hw=32,32")
    free(file.path, "n", "h", "w")
    assert built_for(file.path, *option) == [32, 32]
    asked = DetectorFile(file.path, DetectorConfig(input=DetectorInput(size_hw=(128, 192))))
    trt.build_detector(asked)
    detector = open_detector(asked, "trt", None)
    assert detector._network.inputs[0].shape == (1, 3, 128, 192)
    assert detector.detect(FRAME).boxes_n4.tolist() == [[5, 5, 20, 20]]
    detector.close()
    free(file.path, imgsz="[64, 96]")
    assert built_for(file.path) == [64, 96]


def test_a_fixed_size_stays_what_the_file_says(file):
    assert built_for(file.path) == []


def test_an_option_that_would_change_no_engine_is_refused(file, bundle, runtime):
    size = ["--backend-option", "size_hw=32,32"]
    before = list(runtime.builds)
    with pytest.raises(InputError, match=r"the size of its input is fixed in the file: leave out .* size_hw"):
        build.main([str(file.path), *size])
    free(file.path, "h", "w", imgsz="[64, 96]")
    with pytest.raises(InputError, match="the size of its input is 64x96: leave out"):
        build.main([str(file.path), *size])
    with pytest.raises(InputError, match="leave out size_hw"):
        build.main([str(bundle.path), *size])
    with pytest.raises(InputError, match="leave out batches"):
        build.main([str(file.path), "--backend-option", "batches=1,2"])
    assert runtime.builds == before


def test_a_wrong_target_is_told_before_the_first_build(file, runtime):
    with pytest.raises(InputError, match="sm100"):
        build.main([str(file.path), "--sm", "87", "100"])
    assert not runtime.builds


def test_a_free_size_that_nobody_states_is_refused_with_the_way_out(file):
    free(file.path, "h", "w")
    with pytest.raises(InputError, match=r"input images takes pictures of any size: .* size_hw=HEIGHT,WIDTH"):
        build.main([str(file.path)])


def test_an_engine_of_another_size_leaves_the_detector_on_the_cpu(file, capsys):
    free(file.path, "h", "w")
    trt.build_detector(file, options=trt.BuildOptions(size_hw=(64, 96)))
    asked = replace(file, config=DetectorConfig(input=DetectorInput(size_hw=(128, 192))))
    assert open_detector_or_on_cpu(asked, "trt", 1).backend == "ort"
    assert "takes pictures of (64, 96), the detector's input.size_hw is (128, 192)" in capsys.readouterr().err


def test_only_a_missing_engine_or_one_of_another_size_is_built(file, runtime):
    free(file.path, "h", "w")
    trt.build_detector(file, options=trt.BuildOptions(size_hw=(64, 96)))
    build_missing_detector("trt", file)
    assert len(runtime.builds) == 1
    build_missing_detector("trt", replace(file, config=DetectorConfig(input=DetectorInput(size_hw=(128, 192)))))
    assert len(runtime.builds) == 2
    build_missing_detector("ort", file)
    assert len(runtime.builds) == 2


def test_weights_in_another_file_which_could_change_unseen_are_refused(file, bundle):
    stored = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save(onnx.load(file.path), file.path, **stored)
    with pytest.raises(InputError, match="keeps its weights in another file"):
        build.main([str(file.path)])
    with pytest.raises(InputError, match="keeps its weights in another file"):
        prepare(file, [FRAME])
    onnx.save(onnx.load(file.path), file.path)
    assert build.main([str(file.path)]) == 0


def test_another_file_beside_a_bundle_gets_no_engine_among_those_of_the_bundle(bundle):
    before = {path: path.read_bytes() for path in (bundle.path / "engines").iterdir()}
    for name in ("fp32.onnx", "model.fp32.onnx"):
        if not (bundle.path / name).exists():
            shutil.copy(bundle.path / DETECTOR, bundle.path / name)
        with pytest.raises(InputError, match="is not the detector of its bundle"):
            build.main([str(bundle.path / name)])
    assert {path: path.read_bytes() for path in (bundle.path / "engines").iterdir()} == before


def test_an_output_whose_shape_the_picture_decides_is_refused_by_name(tmp_path, runtime, caplog):
    assert build.main([str(suppressing(tmp_path / "nms.onnx"))]) == 1
    assert "the shape of its output picked depends on what the picture shows" in caplog.text
    assert not list(tmp_path.rglob("*.engine*"))


def suppressing(path, last="NonMaxSuppression"):
    """Write a network that ends in a suppression of overlapping boxes, or in an operator of the same kind."""
    boxes = np.random.default_rng(0).random((1, 50, 4), np.float32)
    given = {"boxes": boxes, "scores": boxes[None, :, :, 0], "most": np.array([10])}
    inputs = ["moved", "scores", "most"] if last == "NonMaxSuppression" else ["moved"]
    nodes = [
        onnx.helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        onnx.helper.make_node("Add", ["boxes", "mean"], ["moved"]),
        onnx.helper.make_node(last, inputs, ["picked"]),
    ]
    return save_network(path, nodes, ([1, 3, 64, 96], "picked", onnx.TensorProto.INT64, ["n", 3]), given)


def save_network(path, nodes, tensors, given):
    """Write a network of one input, images, and one output. tensors: its shape; name, type and shape of the output."""
    shape, name, kind, sides = tensors
    graph = onnx.helper.make_graph(
        nodes,
        "network",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(name, kind, sides)],
        [onnx.numpy_helper.from_array(value, key) for key, value in given.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_bundle_is_built_with_its_detector_and_the_detector_alone_too(bundle, runtime, capsys):
    capsys.readouterr()
    assert build.main([str(bundle.path), "--precision", "fp32", "--json"]) == 0
    assert [row["precision"] for row in json.loads(capsys.readouterr().out)] == ["fp32", OF_DETECTOR]
    assert build.main([str(bundle.path / DETECTOR), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["engine"] == str(engine_of(bundle))
    with pytest.raises(InputError, match="leave out --precision"):
        build.main([str(bundle.path / DETECTOR), "--precision", "fp32"])


def test_verify_proves_it_on_this_device_and_keeps_its_kernels(bundle, runtime):
    engine = engine_of(bundle)
    assert load_manifest(engine, "").state == "built"
    lines = {line.what: line for line in verify(bundle)}
    assert {line.result for what, line in lines.items() if what.startswith("trt detector")} == {"passed"}
    assert lines[engine.name].detail == f"proved on Fake Orin, {runtime.__name__} 11.4.1 for sm87"
    kept = read_cache(runtime_file(engine), load_manifest(engine, "").engine_sha256)
    assert bool(kept) == (runtime.__name__ == RTX)


def test_a_run_takes_both_engines_and_tests_both_at_power_on(bundle, runtime, capsys):
    source = "synthetic://?frames=4&width=320&height=180"
    summary = run_from_args(
        read_arguments([str(bundle.path), "--source", source, "--backend", "trt", "--precision", "fp32"])
    )
    assert "regions: tracks by a detector on trt" in capsys.readouterr().err
    checks = {row["check"]: row["value"] for row in summary["self_test"]["checks"]}
    assert checks["boxes without a match"] == 0
    assert (runtime.cuda.open, fake_cuda.Buffer.at) == (0, {})


def test_an_engine_that_finds_other_boxes_stays_unproved(bundle, runtime):
    runtime.drift = 5.0
    failed = [line.what for line in verify(bundle) if line.result == "failed"]
    assert "trt detector: boxes without a match" in failed
    assert load_manifest(engine_of(bundle), "").state == "built"


def test_verify_names_an_engine_of_another_detector(bundle):
    kept = engine_of(bundle).read_bytes(), engine_of(bundle).with_name(f"{engine_of(bundle).name}.json").read_bytes()
    write_detector(bundle.path / DETECTOR, (20, 20, 50, 50, 0.9, 0))
    changed = bundle.with_files(list(bundle.files))
    changed.save()
    (line,) = [line for line in verify(changed, ["null"]) if line.what == engine_of(bundle).name]
    assert line.result == "failed"
    assert f"ONNX sha256 is {bundle.files[DETECTOR]['sha256']}, here it is {changed.files[DETECTOR]['sha256']}" in (
        line.detail
    )
    assert kept[0] == engine_of(bundle).read_bytes(), "verify writes into no engine"


def test_another_detector_takes_the_place_of_the_engine_too(bundle, tmp_path):
    before = load_manifest(engine_of(bundle), "").onnx_sha256
    verify(bundle)
    frames = [np.random.default_rng(i).integers(60, 200, (64, 96, 3), np.uint8) for i in range(3)]
    add(bundle.path, prepare(DetectorFile(write_detector(tmp_path / "e.onnx", (9, 9, 50, 50, 0.9, 0))), frames))
    manifest = load_manifest(engine_of(bundle), "")
    assert (manifest.state, manifest.onnx_sha256 == before) == ("built", False)
    assert not [line for line in verify(open_bundle(bundle.path)) if line.result == "failed"]


def test_a_detector_that_has_no_engine_is_added_all_the_same(bundle, monkeypatch, capsys):
    monkeypatch.setattr(fake_trt.Builder, "build_serialized_network", lambda *_: None)
    frames = [np.random.default_rng(i).integers(60, 200, (64, 96, 3), np.uint8) for i in range(3)]
    file = DetectorFile(shutil.copy(bundle.path / DETECTOR, bundle.path.parent / "same.onnx"))
    add(bundle.path, prepare(file, frames))
    assert "the detector has no engine of" in capsys.readouterr().err
    assert detector_engines(bundle) == []


names = st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=5)


@given(names)
def test_metadata_is_read_as_onnx_reads_it(tmp_path_factory, written):
    file = tmp_path_factory.mktemp("m") / "m.onnx"
    model = onnx.load(write_detector(file))
    onnx.helper.set_model_props(model, written)
    onnx.save(model, file)
    assert read_metadata(file) == written


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_have_no_readable_end_and_no_error(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("m") / "m.onnx"
    file.write_bytes(data)
    assert isinstance(read_metadata(file), dict)
