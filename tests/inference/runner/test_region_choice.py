"""Which regions a session classifies."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.bundle.contract import DETECTOR
from core.errors import InputError
from core.geometry.camera_config import CameraConfig, read_camera_config
from core.geometry.detector_config import DetectorConfig, DetectorFile
from inference.backends import ort
from inference.commands.run import read_arguments, run_from_args
from inference.frame.detection.detector import open_detector_or_on_cpu
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.runner.region_choice import check_detector_flags, open_regions, pick_detector
from tests.bundles import make_bundle

SOURCE = SimpleNamespace(zones={}, sequence=True)
ZONES = CameraConfig({"ego": (0.0, 0.0, 1.0, 1.0)})


def write_detector(path: Path, *boxes: tuple[float, ...]) -> Path:
    """Write an ONNX file that finds the same boxes in every picture: x0, y0, x1, y1 of 64 x 96, score, class."""
    rows = np.array([boxes or [(10, 10, 40, 40, 0.9, 0)]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "boxes",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, rows.shape)],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"names": "{0: 'car', 1: 'tree'}", "end2end": "True"})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("backend", "runs_on"), [("ort", "ort"), ("openvino", "openvino"), ("null", "ort")])
def test_a_detector_runs_on_the_classifiers_backend_or_on_ort(tmp_path, backend, runs_on):
    detector = open_detector_or_on_cpu(DetectorFile(write_detector(tmp_path / "d.onnx")), backend, threads=1)
    assert detector.backend == runs_on
    found = detector.detect(np.zeros((64, 96, 3), np.uint8))
    assert detector.config.layout == "yolo_end2end"
    assert found.boxes_n4.tolist() == [[10, 10, 40, 40]]
    detector.close()


def test_the_command_line_wins_over_camera_json_and_keeps_how_it_is_driven():
    config = DetectorConfig(every=3)
    camera = CameraConfig(detector=DetectorFile(Path("a.onnx"), config))
    assert pick_detector(camera, Path("b.onnx")) == DetectorFile(Path("b.onnx"), config)
    assert pick_detector(camera, None) == camera.detector
    assert pick_detector(CameraConfig(), None) is None


def test_zones_and_a_detector_are_refused():
    with pytest.raises(InputError, match="give one of the two"):
        pick_detector(ZONES, Path("b.onnx"))
    with pytest.raises(InputError, match="give one of the two"):
        replace(ZONES, detector=DetectorFile(Path("a.onnx")))


@pytest.mark.parametrize(
    ("backend", "file", "named"),
    [
        ("ort", None, "no detector: add --detector"),
        ("tpu", None, "there is no backend 'tpu': choose from"),
        ("tpu", Path("d.onnx"), "there is no backend 'tpu': choose from"),
    ],
)
def test_a_backend_for_no_detector_and_one_that_does_not_exist_are_refused(tmp_path, backend, file, named):
    flags = ["--detector-backend", backend, *(("--detector", str(file)) if file else ())]
    with pytest.raises(InputError, match=named):
        run_from_args(read_arguments([str(make_bundle(tmp_path / "b").path), "--source", "synthetic://", *flags]))


def test_of_two_detectors_the_one_that_wins_is_named(tmp_path, caplog):
    camera, bundle = CameraConfig(detector=DetectorFile(Path("a.onnx"))), make_bundle(tmp_path / "b")
    check_detector_flags(bundle, camera, Path("a.onnx"), None)
    assert not caplog.text
    check_detector_flags(bundle, camera, Path("b.onnx"), "ort")
    assert "the detector is b.onnx, by --detector, with the settings of camera.json, not a.onnx" in caplog.text


def test_regions_without_a_detector_are_refused_in_a_whole_sentence(tmp_path):
    (tmp_path / "camera.json").write_text('{"regions": {"every": 3}}')
    with pytest.raises(InputError, match=r'no key `detector`: give {"detector": "FILE\.onnx"}'):
        read_camera_config(tmp_path / "camera.json")


def test_camera_json_names_a_detector_beside_it(tmp_path):
    (tmp_path / "camera.json").write_text('{"regions": {"detector": "d.onnx", "every": 3}}')
    assert read_camera_config(tmp_path / "camera.json").detector == DetectorFile(
        tmp_path / "d.onnx", DetectorConfig(every=3)
    )


@pytest.mark.parametrize("regions", ["[]", "{}", '{"detector": 1}', '{"detector": "d.onnx", "every": 0}'])
def test_wrong_regions_name_the_file(tmp_path, regions):
    (tmp_path / "camera.json").write_text(f'{{"regions": {regions}}}')
    with pytest.raises(InputError, match=r"camera\.json"):
        read_camera_config(tmp_path / "camera.json")


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a detector."""
    made = make_bundle(tmp_path / "bundle")
    write_detector(made.path / DETECTOR)
    made = replace(made.with_files([*made.files, DETECTOR]), detector=DetectorConfig("yolo_end2end", most=4))
    made.save()
    return made


def test_the_bundles_detector_is_used_unless_there_are_zones(bundle):
    own = replace(bundle, detector=replace(bundle.detector, names=("car",)))
    assert isinstance(open_regions(own, CameraConfig(), None, SOURCE, "ort", 1), TrackedRegions)
    assert open_regions(own, ZONES, None, SOURCE, "ort", 1).names == ("ego",)


def test_a_detector_that_is_not_the_bundles_bytes_is_refused(bundle):
    write_detector(bundle.path / DETECTOR, (0, 0, 9, 9, 0.9, 0))
    with pytest.raises(InputError, match=r"detector\.onnx is not the file that was proved"):
        open_regions(bundle, CameraConfig(), None, SOURCE, "ort", 1)


@pytest.mark.parametrize(("backend", "runtime"), [("ort", "onnxruntime"), ("openvino", "openvino")])
def test_a_detector_that_does_not_load_is_one_sentence_with_a_hint(tmp_path, backend, runtime):
    (tmp_path / "d.onnx").write_bytes(b"no\0graph")
    with pytest.raises(InputError, match=rf"d\.onnx does not load in {runtime} .*: export it again"):
        open_detector_or_on_cpu(DetectorFile(tmp_path / "d.onnx"), backend, 1)


def run(bundle: Path, *arguments: str) -> dict:
    return run_from_args(
        read_arguments([str(bundle), "--source", "synthetic://?frames=6&width=320&height=180", *arguments])
    )


def test_a_run_with_a_detector_is_stamped_unproved(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", background=None)
    file = write_detector(tmp_path / "d.onnx")
    summary = run(bundle.path, "--detector", str(file), "--out", str(tmp_path / "out"))
    assert "unproved_detector" in summary["stamps"]
    assert summary["stages_ms"]["detect"]["max"] > 0
    assert '"track1"' in (tmp_path / "out" / "decisions.jsonl").read_text()


@pytest.fixture
def spinning(monkeypatch):
    """What every ONNX Runtime session of the test says of its idle threads, by the file's name."""
    found, new_session = {}, ort._open_session

    def open_session(path, threads, *, spin):
        session = new_session(path, threads, spin=spin)
        entry = session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning")
        found[path.name] = entry == "1"
        return session

    monkeypatch.setattr(ort, "_open_session", open_session)
    return found


@pytest.mark.parametrize("option", [[], ["--backend-option", "spin=true"], ["--backend-option", "spin=false"]])
def test_beside_a_detector_no_idle_thread_spins_unless_asked_to(tmp_path, spinning, option):
    bundle, file = make_bundle(tmp_path / "bundle", background=None), write_detector(tmp_path / "d.onnx")
    run(bundle.path, "--detector", str(file), "--precision", "fp32", *option)
    assert spinning == {"d.onnx": False, "model.fp32.onnx": option[1:] == ["spin=true"]}
    run(bundle.path, "--precision", "fp32", *option)
    assert spinning["model.fp32.onnx"] == (option[1:] != ["spin=false"])


def test_a_backend_without_the_option_opens_beside_a_detector(tmp_path):
    bundle, file = make_bundle(tmp_path / "bundle", background=None), write_detector(tmp_path / "d.onnx")
    assert run(bundle.path, "--detector", str(file), "--backend", "openvino")["backend"]["backend"] == "openvino"


def test_boxes_beside_a_detector_are_refused(tmp_path):
    bundle, file = make_bundle(tmp_path / "bundle"), write_detector(tmp_path / "d.onnx")
    with pytest.raises(InputError, match="give one of them"):
        run(bundle.path, "--detector", str(file), "--boxes", str(tmp_path / "boxes.jsonl"))


def test_a_detector_runs_on_the_backend_that_is_named_for_it(tmp_path, capsys):
    bundle, file = make_bundle(tmp_path / "bundle"), write_detector(tmp_path / "d.onnx")
    run(bundle.path, "--detector", str(file), "--backend", "ort", "--detector-backend", "openvino")
    assert "regions: tracks by a detector on openvino" in capsys.readouterr().err
    with pytest.raises(InputError, match="there is no backend 'tpu'"):
        run(bundle.path, "--detector", str(file), "--detector-backend", "tpu")
