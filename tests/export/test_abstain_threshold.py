"""The abstain threshold is fitted on labeled frames, and bundle.json says on what."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from benchmarks.measure.artifacts import describe_abstention
from core.bundle.contract import Bundle, onnx_name, open_bundle
from core.data.labeled_frames import LabeledFrame, LabeledObject, describe_frames, write_frames
from core.data.pack import open_pack
from core.errors import InputError
from export.abstain_threshold import fit_on_frames
from export.assemble import begin_bundle
from export.builder import BundleBuilder
from export.commands import bundle as command
from export.commands.add_detector import main as add_detector
from inference.backends import open_backend
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.proof.frame_score import Outcome, ScoredFrame, score_frames
from inference.runner.labeled_regions import FramesRequest
from tests.export import runs
from tests.inference.runner.test_region_choice import write_detector

SIZE = (96, 64)
BOXES = ((4, 4, 44, 60), (52, 4, 92, 60))


@pytest.fixture
def frames_pack(pack_path, tmp_path) -> Path:
    """The pack with frames of two colored boxes, some of them with so little color that the network errs."""
    path, root, random = (
        shutil.copytree(pack_path, tmp_path / "frames"),
        tmp_path / "pictures",
        np.random.default_rng(0),
    )
    root.mkdir()
    frames = []
    for i in range(40):
        picture = random.integers(0, 200, (*SIZE[::-1], 3)).astype(np.int64)
        objects = []
        for x0, y0, x1, y1 in BOXES:
            label = int(random.integers(3))
            picture[y0:y1, x0:x1, 2 - label] += random.integers(15, 80)  # OpenCV's order: blue, green, red
            objects.append(LabeledObject(runs.CLASSES[label], (x0, y0, x1, y1)))
        cv2.imwrite(str(root / f"{i}.png"), np.clip(picture, 0, 255).astype(np.uint8))
        frames.append(LabeledFrame(f"{i}.png", str(i), "val", SIZE, tuple(objects)))
    write_frames(path, frames)
    facts = json.loads((path / "pack.json").read_text())
    facts |= {"frames": describe_frames(frames), "source": {"root": str(root)}, "options": {"margin": 0.0}}
    (path / "pack.json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def builder(checkpoint, pack, fp32, tmp_path) -> BundleBuilder:
    """A bundle whose fp32 file is written, as `fit_on_frames` gets it."""
    checkpoint.save(tmp_path / "best.safetensors")
    folder = tmp_path / "bundle"
    folder.mkdir()
    made = begin_bundle(
        tmp_path / "best.safetensors", checkpoint, checkpoint.build_network(), pack, folder, runs.SIZE_PX
    )
    made.set_gate("fp32", {"passed": True, "checks": []})
    made.write(onnx_name("fp32"), fp32)
    return made


def outcomes(bundle: Bundle, frames_pack: Path) -> list[Outcome]:
    """Return what the bundle that ships makes of every object of the val frames."""
    pack, request = open_pack(frames_pack), FramesRequest(split="val")
    frames = request.frames(pack)
    _, regions = request.regions(pack, frames, bundle, "ort", None)
    with open_backend("ort", bundle, "fp32", batch=regions.max_regions) as backend:
        processor = FrameProcessor(bundle, backend, regions, FrameConfig(sequence=False))
        (scores,) = score_frames([(bundle, processor)], pack, frames)
    return [scored.outcome for score in scores if isinstance(score, ScoredFrame) for scored in score.objects]


def test_the_bundle_reaches_on_the_frames_what_it_says(builder, fp32, frames_pack):
    fit_on_frames(builder, deepcopy(fp32), open_pack(frames_pack), FramesRequest(split="val"))
    bundle, fitted = builder.bundle, builder.bundle.provenance["abstention"]
    assert (fitted["fitted_on"], fitted["regions"], fitted["frames"]) == ("frames", "the labeled boxes", 40)
    assert bundle.abstain_threshold == fitted["threshold"] != 0.4
    on = f"{fitted['objects']} objects with a region in 40 frames of val, in the labeled boxes"
    assert f"fitted on the {on}: it answers {fitted['coverage']:.1%} of them" in describe_abstention(bundle)
    builder.bind()
    found = outcomes(builder.bundle, frames_pack)
    answered = len(found) - found.count(Outcome.SILENT)
    assert (fitted["objects"], fitted["coverage"]) == (len(found), pytest.approx(answered / len(found)))
    assert fitted["risk"] == pytest.approx(found.count(Outcome.WRONG) / answered)
    assert fitted["risk_low_95"] <= fitted["risk"] <= min(fitted["risk_wanted"], fitted["risk_high_95"])
    # a threshold that answers all of them does not keep the risk
    assert outcomes(replace(builder.bundle, abstain_threshold=0.0), frames_pack).count(Outcome.WRONG) > 0.05 * 80


def test_it_warns_where_no_threshold_keeps_the_risk(builder, fp32, frames_pack, caplog):
    builder.bundle.provenance["abstention"]["risk_wanted"] = 0.0
    fit_on_frames(builder, deepcopy(fp32), open_pack(frames_pack), FramesRequest(split="val"))
    fitted = builder.bundle.provenance["abstention"]
    assert fitted["risk"] > 0
    assert fitted["coverage"] == pytest.approx(0.5, abs=0.02)
    assert "no threshold that answers half of the objects keeps the risk of 0.0%" in caplog.text


def test_zones_in_which_no_class_may_be_named_fit_nothing(builder, fp32, frames_pack, tmp_path):
    camera = tmp_path / "camera.json"
    camera.write_text('{"zones": {"left": [0, 0, 0.5, 1]}}')
    with pytest.raises(InputError, match=r"no object is answered .* the zones of camera.json \(UNPROVED\)"):
        fit_on_frames(builder, deepcopy(fp32), open_pack(frames_pack), FramesRequest(split="val", camera=camera))


def test_behind_a_detector_that_gives_nan_nothing_is_fitted_and_the_nan_is_named(builder, fp32, frames_pack, tmp_path):
    detector = write_detector(tmp_path / "d.onnx", (np.nan, 4, 44, 60, 0.9, 0))
    with pytest.raises(InputError, match=r"the boxes of d.onnx \(the detector gives NaN\)"):
        fit_on_frames(builder, deepcopy(fp32), open_pack(frames_pack), FramesRequest(split="val", detector=detector))


def test_the_command_fits_on_the_frames_that_are_named_and_the_file_carries_the_contract(run_path, frames_pack):
    where = ["--abstain-on-frames", "--frames-of", str(frames_pack), "--jitter", "0.1"]
    assert command.main([str(run_path), "--precisions", "fp32", "--engines", *where]) == 0
    bundle = open_bundle(run_path / runs.ARCH / "bundle")
    fitted = bundle.provenance["abstention"]
    assert (fitted["fitted_on"], fitted["regions"]) == ("frames", "the labeled boxes, jittered by 0.1")
    props = {prop.key: prop.value for prop in onnx.load(bundle.path / "model.fp32.onnx").metadata_props}
    assert props["rearguard.contract"] == bundle.contract_hash


def test_a_pack_without_frames_is_refused_before_anything_is_exported(run_path, monkeypatch):
    monkeypatch.setattr(command, "_export", lambda *_: pytest.fail("it exports"))
    with pytest.raises(InputError, match=r"pack holds no labeled frames: give --frames-of"):
        command.main([str(run_path), "--abstain-on-frames"])


def test_behind_the_detector_of_the_bundle_unless_labeled_boxes_are_asked_for(run_path, frames_pack, tmp_path):
    export = [str(run_path), "--precisions", "fp32", "--engines"]
    assert command.main(export) == 0
    detector = write_detector(tmp_path / "d.onnx", *((*box, 0.9, 0) for box in BOXES))
    assert add_detector([str(run_path), str(detector), "--frames", str(tmp_path / "pictures")]) == 0
    fitted = {}
    for flags in ([], ["--jitter", "0.1"]):
        assert command.main([*export, "--abstain-on-frames", "--frames-of", str(frames_pack), *flags]) == 0
        bundle = open_bundle(run_path / runs.ARCH / "bundle")
        assert bundle.detector is not None
        fitted[bool(flags)] = bundle.provenance["abstention"]["regions"]
    assert fitted == {False: "the boxes of the detector in the bundle", True: "the labeled boxes, jittered by 0.1"}


@pytest.mark.parametrize("given", ["--camera", "--detector"])
def test_jitter_beside_other_regions_is_refused(run_path, given):
    with pytest.raises(InputError, match=f"{given} gives other regions"):
        command.main([str(run_path), "--abstain-on-frames", "--jitter", "0.1", given, "x"])


def test_without_it_the_threshold_is_that_of_the_crops(builder):
    fitted = builder.bundle.provenance["abstention"]
    assert (fitted["fitted_on"], fitted["rows"]) == ("rows", 60)
    assert builder.bundle.abstain_threshold == fitted["threshold"] == 0.4
    said = describe_abstention(builder.bundle)
    assert (
        "of 0.400 was fitted on 60 rows of val: it answers 100.0% of them, and 0.0% of these answers are wrong" in said
    )
    by_hand = replace(builder.bundle, abstain_threshold=0.5)
    assert describe_abstention(by_hand).startswith("What the abstain threshold of 0.500 reaches is not known")


@pytest.mark.parametrize("given", [("--camera", "camera.json"), ("--jitter", "0.1")])
def test_what_says_where_to_fit_asks_for_the_fit(run_path, given):
    with pytest.raises(InputError, match="add --abstain-on-frames"):
        command.main([str(run_path), *given])
