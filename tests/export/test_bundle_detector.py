"""add-detector: what goes into the bundle, and who holds it there."""

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from core.bundle import golden_detections
from core.bundle.contract import DETECTOR, open_bundle
from core.bundle.engine_manifest import detector_engines
from core.bundle.golden_detections import NAME
from core.data.run_dir import open_run
from core.errors import CheckError, InputError
from core.files import sealed, write_json
from core.geometry.detector_config import DetectorConfig
from core.locks import locked
from export.bundle_detector import keep_detector
from export.commands.add_detector import main
from export.commands.bundle import main as export
from export.package import device_files
from inference.backends import UnavailableError, openvino
from inference.commands.run import read_arguments, run_from_args
from inference.frame.detection.detector import Detector
from inference.proof.verify import verify
from tests.bundles import make_bundle
from tests.inference.runner.test_region_choice import write_detector
from tests.killed_replacement import kill_between_renames

CONFIG = {"every": 3, "threshold": 0.4}


@pytest.fixture
def run(tmp_path):
    """A run of one bundle, a detector, and a folder of frames."""
    path = tmp_path / "run"
    make_bundle(path / "tiny" / "bundle", background=None)
    write_json(path / "run.json", {"schema": 1, "pack": {"path": "pack", "fingerprint": "0"}})
    write_detector(tmp_path / "d.onnx")
    write_json(tmp_path / "detector.json", CONFIG)
    (tmp_path / "frames").mkdir()
    for i in range(5):
        noise = np.random.default_rng(i).integers(60, 200, (128, 192, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "frames" / f"{i}.png"), noise)
    return path


def add(run, *arguments: str) -> int:
    frames, config = str(run.parent / "frames"), str(run.parent / "detector.json")
    return main([str(run), str(run.parent / "d.onnx"), "--config", config, "--frames", frames, *arguments])


def bundle_of(run):
    return open_bundle(run / "tiny" / "bundle")


def test_file_decoding_and_golden_frames_are_bound(run, capsys):
    before = bundle_of(run)
    assert add(run, "--json") == 0
    bundle = bundle_of(run)
    assert {DETECTOR, NAME} <= set(bundle.files)
    assert (bundle.detector.layout, bundle.detector.every, bundle.detector.counts) == ("yolo_end2end", 3, ("car",))
    assert bundle.detector.input.size_hw == (64, 96)
    assert bundle.contract_hash == before.contract_hash
    assert {line["backend"] for line in json.loads(capsys.readouterr().out)["checks"]} == {"ort", "openvino"}


def test_it_says_what_it_added(run, capsys):
    assert add(run) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "d.onnx: layout yolo_end2end, 96x64 px; classified are boxes of car of its 2 classes"
    assert said[1] == "threshold 0.4, overlap 0.5, every 3 frames; 3 golden frames with 3 boxes"


def test_a_second_one_takes_the_place_of_the_first(run):
    add(run)
    write_detector(run.parent / "d.onnx", (20, 20, 50, 50, 0.9, 0))
    add(run)
    assert not [line for line in verify(bundle_of(run)) if line.result == "failed"]


def test_a_bundle_that_another_process_writes_gets_no_detector(run):
    with locked(run / "tiny" / "bundle"), pytest.raises(InputError, match="bundle is in use by another process"):
        add(run)
    assert bundle_of(run).detector is None


@pytest.mark.parametrize("read", [lambda run: open_bundle(open_run(run).bundles()["tiny"]), bundle_of])
def test_a_bundle_that_a_killed_process_moved_aside_is_back_before_it_is_read(run, read, caplog):
    add(run)
    kill_between_renames(run / "tiny" / "bundle")
    assert read(run).detector
    assert "bundle was missing, because a process was killed while it replaced it" in caplog.text


def test_a_bundle_that_is_a_link_gets_its_detector_where_it_lies(run, tmp_path):
    link = run / "tiny" / "bundle"
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    add(run)
    assert open_bundle(tmp_path / "elsewhere").detector
    assert list(link.parent.iterdir()) == [link]
    assert link.is_symlink()


def test_a_new_export_keeps_the_detector(run, run_path):
    arguments = [str(run_path), "--precisions", "fp32", "--engines"]
    export(arguments)
    frames = str(run.parent / "frames")
    main([str(run_path), str(run.parent / "d.onnx"), "--frames", frames])
    (folder,) = open_run(run_path).bundles().values()
    before = open_bundle(folder)
    export(arguments)
    after = open_bundle(folder)
    assert after.detector == before.detector
    assert {name: after.files[name] for name in (DETECTOR, NAME)} == {
        name: before.files[name] for name in (DETECTOR, NAME)
    }


def test_a_new_export_builds_the_engine_of_the_detector_that_it_keeps_and_says_so_before(run, run_path, capsys):
    pytest.importorskip("tensorrt_rtx")
    arguments = [str(run_path), "--precisions", "fp32", "--sm", "86"]
    export(arguments)
    main([str(run_path), str(run.parent / "d.onnx"), "--frames", str(run.parent / "frames")])
    (folder,) = open_run(run_path).bundles().values()
    (added,) = detector_engines(open_bundle(folder))
    capsys.readouterr()
    assert export([*arguments, "--dry-run"]) == 0
    assert re.search("engine detector tensorrt_rtx +-> sm86", capsys.readouterr().out)
    assert export(arguments) == 0
    assert detector_engines(open_bundle(folder)) == [added]
    assert not [line for line in verify(open_bundle(folder)) if line.result == "failed"]


def test_a_damaged_detector_is_not_kept_in_a_new_export_and_is_named(run, tmp_path, caplog):
    add(run)
    (bundle_of(run).path / DETECTOR).write_bytes(b"other")
    new = make_bundle(tmp_path / "new", background=None)
    assert keep_detector(bundle_of(run).path, new) == new
    assert "detector.onnx is not the file that was proved" in caplog.text
    assert not (new.path / NAME).exists()


def test_verify_holds_the_detector_on_every_backend(run):
    add(run)
    lines = [line for line in verify(bundle_of(run)) if "detector" in line.what]
    assert {line.what.split()[0] for line in lines} == {"ort", "openvino"}
    assert {line.result for line in lines} == {"passed"}


def test_a_backend_that_cannot_run_the_detector_is_told_and_stops_no_other(run, monkeypatch, capsys):
    def refuse(path, threads=None):
        raise UnavailableError(f"{path.name}: a node would run on the CPU")

    monkeypatch.setattr(openvino, "open_network", refuse)
    add(run)
    assert "not proved on openvino: detector.onnx: a node would run on the CPU" in capsys.readouterr().err
    lines = [line for line in verify(bundle_of(run)) if "detector" in line.what]
    assert [line.result for line in lines if line.what == "openvino detector"] == ["unavailable"]
    assert {line.result for line in lines if line.what.startswith("ort ")} == {"passed"}


def swap_detector(run):
    """Put another detector into the bundle, with its hash: as if a runtime answered something else."""
    add(run)
    return swapped(run, (20, 20, 50, 50, 0.9, 0))


def swapped(run, box):
    bundle = bundle_of(run)
    write_detector(bundle.path / DETECTOR, box)
    bundle.with_files(list(bundle.files)).save()
    return bundle_of(run)


def test_verify_fails_where_other_boxes_come(run):
    failed = [line.what for line in verify(swap_detector(run)) if line.result == "failed"]
    assert failed == ["openvino detector: boxes without a match", "ort detector: boxes without a match"]


def session(bundle) -> dict:
    return run_from_args(read_arguments([str(bundle.path), "--source", "synthetic://?frames=4&width=320&height=180"]))


def test_the_self_test_refuses_where_other_boxes_come(run):
    with pytest.raises(CheckError, match=r"self-test .*detector on ort.*boxes without a match is \d"):
        session(swap_detector(run))


def test_a_run_uses_the_proved_detector_and_is_not_stamped(run):
    add(run)
    summary = session(bundle_of(run))
    assert summary["zones"] == ["tracks"]
    assert "unproved_detector" not in summary["stamps"]
    assert any("boxes" in check["check"] for check in summary["self_test"]["checks"])


def test_the_archive_carries_it(run):
    add(run)
    files = device_files(bundle_of(run).path)
    assert {f"bundle/{DETECTOR}", f"bundle/{NAME}", "inference/detectors/yolox.py"} <= set(files)


def test_a_detector_that_finds_nothing_is_refused_and_the_bundle_stays(run):
    before = bundle_of(run)
    write_detector(run.parent / "d.onnx", (10, 10, 40, 40, 0.1, 0))
    with pytest.raises(InputError, match="finds nothing with a score above"):
        add(run)
    assert bundle_of(run) == before


UNUSABLE = {
    "nan": ((np.nan, 10, 40, 40, 0.9, 0), r"gives NaN \(16\.7% of output0\)"),
    "infinite": ((10, 10, np.inf, 40, 0.9, 0), r"gives infinite boxes alone \(1 over the threshold\)"),
    "0 to 1": ((0.1, 0.1, 0.9, 1.1, 0.9, 0), "gives boxes as parts of the picture, from 0 to 1"),
    "another class": ((10, 10, 40, 40, 0.9, 1), r"gives no box of a class that counts \(car\), but 1 of tree"),
    "no class": (
        (10, 10, 40, 40, 0.9, 7),
        r"gives no box of a class that counts \(car\), but 1 of number 7, which has no name",
    ),
}


@pytest.mark.parametrize(("box", "said"), UNUSABLE.values(), ids=UNUSABLE)
def test_why_no_box_can_be_used_is_said_and_the_bundle_stays(run, box, said):
    before = bundle_of(run)
    write_detector(run.parent / "d.onnx", box)
    with pytest.raises(InputError, match=rf"d\.onnx {said}"):
        add(run)
    assert bundle_of(run) == before


def test_nan_in_some_frames_is_a_warning_that_counts_them(run, monkeypatch, caplog):
    answers, detect = iter([True, False, True, True]), Detector.detect

    def sometimes(self, frame_bgr):
        return detect(self, frame_bgr) if next(answers, True) else None

    monkeypatch.setattr(Detector, "detect", sometimes)
    assert add(run) == 0
    assert "d.onnx gives NaN in 1 of 5 frames" in caplog.text


def test_a_threshold_near_1_is_proved_as_any_other(run):
    write_json(run.parent / "detector.json", {"threshold": 0.95})
    write_detector(run.parent / "d.onnx", (10, 10, 40, 40, 0.99, 0))
    assert add(run) == 0
    assert len(golden_detections.load_golden_detections(bundle_of(run).path / NAME).boxes_n6) == 3
    with pytest.raises(CheckError, match="boxes without a match"):
        session(swapped(run, (20, 20, 50, 50, 0.99, 0)))


def test_a_run_without_frames_names_the_way_out(run):
    with pytest.raises(InputError, match=re.escape(str(run / "pack")) + ".*give --frames"):
        main([str(run), str(run.parent / "d.onnx")])


def test_a_proof_that_fails_leaves_the_bundle_as_it_was(run, monkeypatch):
    before = bundle_of(run)
    monkeypatch.setattr("core.bundle.golden_detections.SIDE_PX", -1.0)
    with pytest.raises(CheckError, match="boxes without a match"):
        add(run)
    assert bundle_of(run) == before


def test_a_bundle_of_schema_1_is_read_and_gets_schema_2(run):
    file = bundle_of(run).file
    assert json.loads(file.read_text())["schema"] == 1
    add(run)
    assert json.loads(file.read_text())["schema"] == 2


def test_a_bundle_made_before_there_was_a_smallest_side_is_read_with_none_and_keeps_its_digest(run):
    add(run)
    file = bundle_of(run).file
    assert bundle_of(run).detector.min_side_px == DetectorConfig().min_side_px > 0
    body = json.loads(file.read_text())
    del body["digest"], body["detector"]["min_side_px"]
    write_json(file, sealed(body))
    assert bundle_of(run).detector.min_side_px == 0
    assert session(bundle_of(run))["bundle"]["digest"] == json.loads(file.read_text())["digest"]


def test_a_damaged_detector_entry_is_one_sentence_with_the_file(run):
    add(run)
    file = bundle_of(run).file
    body = json.loads(file.read_text())
    del body["digest"]
    write_json(file, sealed(body | {"detector": [1]}))
    with pytest.raises(InputError, match=r"bundle\.json: the detector is \[1\]: give an object; export the run again"):
        bundle_of(run)


def test_a_detector_without_its_file_is_refused(run):
    made = replace(bundle_of(run), detector=DetectorConfig("yolox"))
    made.save()
    with pytest.raises(InputError, match=r"detector\.onnx is not bound"):
        session(made)
