"""`python -m inference run`, from a bundle and a source to decisions, video and summary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from core.bundle.contract import open_bundle
from core.bundle.golden_file import NAME
from core.bundle.production_choice import ProductionChoice, this_machine
from core.errors import CheckError, InputError
from inference.commands.run import read_arguments, run_from_args
from inference.runner.selection import pick_backend_and_precision
from inference.sinks.jsonl import JsonlSink
from tests.bundles import make_bundle
from tests.inference.sources.videos import write_images, write_video

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("run") / "bundle")


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "v.mp4", frames=12)


def run(bundle, *arguments):
    return run_from_args(read_arguments([str(bundle.path), *map(str, arguments)]))


def test_a_run_without_production_is_told_to_choose_first(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match=f"`python -m benchmarks {tmp_path / 'mine'}` makes it"):
        open_bundle(tmp_path / "mine" / "production")


def call(*arguments):
    command = [sys.executable, "-m", "inference", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]


def test_a_video_gives_one_decision_a_frame_an_overlay_and_a_summary(bundle, video, tmp_path):
    done = call("run", bundle.path, "--source", video, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [line["frame"] for line in lines_of(tmp_path / "out")] == list(range(12))
    assert (summary["frames"], summary["drops"], summary["self_test"]["passed"]) == (12, 0, True)
    assert set(summary["age_ms"]) == {"p50", "p90", "p99", "max"}
    assert summary["cold_start_ms"] > 0
    assert summary["bundle"]["digest"] == json.loads(bundle.file.read_text())["digest"]
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert not list((tmp_path / "out").glob(".*"))


def test_frames_stops_the_drive(bundle, video, tmp_path):
    assert run(bundle, "--source", video, "--frames", 5, "--out", tmp_path / "out")["frames"] == 5
    assert len(lines_of(tmp_path / "out")) == 5


def test_an_earlier_run_is_kept_under_a_number_unless_it_is_to_be_replaced(bundle, video, tmp_path, caplog):
    out = tmp_path / "out"
    for frames in (1, 2, 3):
        run(bundle, "--source", video, "--out", out, "--frames", frames)
        assert len(lines_of(out)) == frames
    for frames, kept in ((1, out / "earlier-1"), (2, out / "earlier-2")):
        assert len(lines_of(kept)) == json.loads((kept / "summary.json").read_text())["frames"] == frames
        assert (kept / "overlay.mp4").is_file()
        assert f"the earlier run in it is kept in {kept}" in caplog.text
    run(bundle, "--source", video, "--out", out, "--frames", 4, "--no-overlay", "--overwrite")
    assert len(lines_of(out)) == 4
    assert "the earlier run in it is replaced" in caplog.text
    assert {path.name for path in out.iterdir()} == {"decisions.jsonl", "summary.json", "earlier-1", "earlier-2"}


def test_the_files_of_a_run_that_still_writes_stay_where_they_are(bundle, video, tmp_path):
    sink = JsonlSink(tmp_path / "decisions.jsonl")
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="another runner writes"):
        run(bundle, "--source", video, "--out", tmp_path)
    sink.close()
    assert not list(tmp_path.glob("earlier-*"))


def test_every_zone_of_camera_json_gets_a_verdict_in_its_own_rectangle(bundle, video, tmp_path):
    camera = tmp_path / "camera.json"
    camera.write_text('{"zones": {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}}')
    run(bundle, "--source", video, "--camera", camera, "--frames", 1, "--out", tmp_path / "out")
    zones = lines_of(tmp_path / "out")[0]["zones"]
    assert zones["left"]["rect"] == [0, 0, 40, 60]
    assert zones["right"]["rect"] == [40, 0, 80, 60]


def test_a_class_is_said_only_in_ok(tmp_path, video):
    from dataclasses import replace

    replace(make_bundle(tmp_path / "b"), abstain_threshold=1.0).save()
    run(open_bundle(tmp_path / "b"), "--source", video, "--out", tmp_path / "out")
    for line in lines_of(tmp_path / "out"):
        assert (line["state"], line["zones"]["frame"]["label"]) == ("UNKNOWN", None)


def test_truth_is_scored_where_the_source_has_it(bundle, tmp_path):
    summary = run(bundle, "--source", write_images(tmp_path / "images"))
    assert summary["accuracy"]["regions"] == 3
    assert 0 <= summary["accuracy"]["raw"] <= 1


def test_whatever_is_synthetic_says_so_on_every_line(tmp_path):
    real = make_bundle(tmp_path / "b", synthetic=False)
    summary = run(real, "--source", "synthetic://?frames=2&width=160&height=90", "--out", tmp_path / "out")
    assert summary["synthetic"]
    assert all(line["stamps"] == ["synthetic"] for line in lines_of(tmp_path / "out"))
    assert summary["zones"] == ["left", "ego", "right"]


@pytest.fixture
def crops(tmp_path):
    """A model of a folder of crops: it knows no background."""
    return make_bundle(tmp_path / "crops", background=None, synthetic=False)


@pytest.mark.parametrize("zones", [None, '{"zones": {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}}'])
def test_a_model_without_a_background_class_names_none_in_a_fixed_zone(crops, video, zones, tmp_path, capsys):
    more = []
    if zones:
        (tmp_path / "camera.json").write_text(zones)
        more = ["--camera", tmp_path / "camera.json"]
    run(crops, "--source", video, "--out", tmp_path / "out", *more)
    lines = lines_of(tmp_path / "out")
    assert {line["state"] for line in lines} == {"UNPROVED"}
    said = [zone for line in lines for zone in line["zones"].values()]
    assert {(zone["state"], zone["label"]) for zone in said} == {("UNPROVED", None)}
    assert {zone["top"] for zone in said} <= set(crops.classes)
    for text in (lines[0]["reason"], capsys.readouterr().err):
        assert "no background class" in text
        assert "train with a background class, or give boxes from a detector" in text


def test_a_folder_of_crops_is_one_fixed_zone_too(crops, tmp_path):
    summary = run(crops, "--source", write_images(tmp_path / "images"))
    assert summary["said"] == {"UNPROVED": summary["frames"]}
    assert (summary["accuracy"]["regions"], summary["accuracy"]["said"]) == (3, 0)  # what leads is scored all the same


def test_who_insists_is_told_the_class_with_a_stamp(crops, video, tmp_path):
    run(crops, "--source", video, "--out", tmp_path / "out", "--allow-unproved")
    for line in lines_of(tmp_path / "out"):
        assert (line["state"], line["stamps"]) == ("OK", ["unproved_regions"])
        assert line["zones"]["frame"]["label"] in crops.classes


def test_boxes_of_a_detector_need_no_background_class(crops, video, tmp_path, capsys):
    (tmp_path / "boxes.jsonl").write_text('{"frame": 0, "boxes": [{"rect": [2, 3, 30, 40]}]}\n')
    run(crops, "--source", video, "--frames", 1, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.jsonl")
    line = lines_of(tmp_path / "out")[0]
    assert (line["state"], line.get("stamps")) == ("OK", None)
    assert "unproved" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "gates", "expected"),
    [
        (None, {"fp32": True, "int8": True}, ("ort", "int8")),
        (None, {"fp32": True, "int8": False}, ("ort", "fp32")),
        (ProductionChoice("fp32", "null", 1, this_machine()), {"fp32": True, "int8": True}, ("null", "fp32")),
    ],
)
def test_the_choice_then_int8_then_fp32_is_what_runs(bundle, choice, gates, expected):
    from dataclasses import replace

    chosen = replace(bundle, choice=choice, gates={p: {"passed": ok} for p, ok in gates.items()})
    assert pick_backend_and_precision(chosen, None, None) == expected


def test_a_precision_whose_gates_failed_does_not_run(bundle):
    from dataclasses import replace

    failed = replace(bundle, gates={"fp32": {"passed": True}, "int8": {"passed": False}})
    with pytest.raises(InputError, match="no int8 that passed its gates"):
        pick_backend_and_precision(failed, "ort", "int8")
    with pytest.raises(InputError, match=r"holds no fp16 \(it holds fp32\)"):  # nothing says that its gates failed
        pick_backend_and_precision(failed, "ort", "fp16")


def test_a_run_in_place_of_a_bundle_names_the_bundles_of_it(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="is a run, not a bundle: export it first"):
        open_bundle(tmp_path)
    for name in ("a/bundle", "b/bundle"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "bundle.json").touch()
    with pytest.raises(InputError, match=f"give {tmp_path}/a/bundle or {tmp_path}/b/bundle$"):
        open_bundle(tmp_path)
    (tmp_path / "production").mkdir()
    (tmp_path / "production" / "bundle.json").touch()
    with pytest.raises(InputError, match=f"give {tmp_path}/production$"):
        open_bundle(tmp_path)


def test_a_bundle_that_answers_otherwise_than_it_was_proved_does_not_start(tmp_path, video):
    import onnx

    from tests.bundles import tiny_graph

    bundle = make_bundle(tmp_path / "b", precisions=("fp32",))
    onnx.save(tiny_graph(3, scale=-0.05), str(bundle.path / "model.fp32.onnx"))
    bundle.with_files(["model.fp32.onnx", NAME]).save()
    with pytest.raises(CheckError, match="self-test"):
        run(bundle, "--source", video)


def test_one_flipped_byte_in_a_model_file_is_refused(tmp_path, video):
    bundle = make_bundle(tmp_path / "b")
    data = bytearray((bundle.path / "model.int8.ort.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle.path / "model.int8.ort.onnx").write_bytes(data)
    done = call("run", bundle.path, "--source", video)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") <= 3
    assert "model.int8.ort.onnx" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("no_such_bundle", "--source", "synthetic://"),
        ("{bundle}", "--source", "README.md"),
        ("{bundle}", "--source", "missing.mp4"),
        ("{bundle}", "--source", "99"),
        ("{bundle}", "--source", "synthetic://", "--backend", "tensorflow"),
        ("{bundle}", "--source", "synthetic://", "--precision", "int3"),
        ("{bundle}", "--source", "synthetic://", "--frames", "0"),
        ("{bundle}", "--source", "synthetic://", "--camera", "missing.json"),
        ("{bundle}", "--source", "synthetic://", "--out", "/proc/nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(bundle, arguments):
    done = call("run", *(a.format(bundle=bundle.path) for a in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr
    assert done.stderr.count("\n") <= 3
    assert "Traceback" not in done.stderr


def test_the_runner_imports_no_torch_and_no_training_package(bundle, video):
    code = (
        "import sys; from inference.commands.run import main; main(sys.argv[1:]);"
        "heavy = ('torch', 'torchvision', 'timm', 'onnx', 'psutil', 'scipy', 'waitress');"
        "print([m for m in heavy if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(bundle.path), "--source", str(video)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_doctor_lists_every_backend_and_a_hint_for_what_is_missing():
    done = call("doctor", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["part"]: row for row in json.loads(done.stdout)}
    assert {"backend null", "backend ort", "backend openvino", "backend trt"} <= set(rows)
    assert all(row["available"] or row["hint"] for row in rows.values())


def test_decision_json_says_how_steady_a_film_is_and_a_folder_of_pictures_is_never_smoothed(bundle, video, tmp_path):
    (tmp_path / "decision.json").write_text('{"hold_ms": 70}')
    film = run(bundle, "--source", video, "--smoothing", tmp_path / "decision.json")
    assert film["habits"] == {"smooth_ms": 150.0, "margin": 0.3, "hold_ms": 70, "forget_ms": 1000.0}
    earlier = run(bundle, "--source", video, "--decision", tmp_path / "decision.json")  # its name before
    assert earlier["habits"] == film["habits"]
    assert run(bundle, "--source", write_images(tmp_path / "images"))["habits"] is None
