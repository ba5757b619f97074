import json
import os

import pytest

from training.__main__ import LAUNCH
from training.augment import prepare
from training.augment.prepare import DeviceAugment
from training.bench import data_speed, loop_speed, step_speed
from training.commands.bench import main
from training.compute.mode import ComputeMode

ARCH = "squeezenet_inspired"
DATA = [{"size_px": 64, "ratio": 11.0, "images_per_s": 7000.0}]
STEP = [
    {"arch": ARCH, "ratio": 2.5, "images_per_s": 500.0, "twin_images_per_s": 200.0, "mode": ComputeMode().as_json()}
]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(loop_speed, "IMAGES", 64)
    monkeypatch.setattr(loop_speed, "choose_mode", lambda *_: (ComputeMode("bf16", "channels_last"), {}))


def test_json_holds_a_ratio_for_each_part(capsys, monkeypatch):
    monkeypatch.setattr(data_speed, "measure", lambda pack: DATA)  # each has its own tests
    monkeypatch.setattr(step_speed, "measure_steps", lambda *_, compiled: STEP)
    loop = ["--models", ARCH, "--size", "32", "--batch", "8", "--steps", "2", "--device", "cpu"]
    assert main([*loop, "--json"]) is None
    result = json.loads(capsys.readouterr().out)
    assert (result["data_path"], result["step"]) == (DATA, STEP)
    assert result["loop"]["images_per_s"][ARCH] > 0
    assert result["loop"]["rows"][0]["step_alone"] > 0
    assert result["loop"]["hours_uvh26_100_epochs"] > 0
    assert main(loop) is None
    said = capsys.readouterr().out
    assert "whole loop on cpu, 32 px, augmented on the host" in said
    assert "(the step alone: " in said
    assert "2.50x" in said


def test_the_step_is_timed_in_processes_of_its_own(monkeypatch):
    """The one with our allocator settings and mode, the other as anybody's: no launcher, fp32, contiguous."""
    seen = []
    popen = step_speed.subprocess.Popen

    def watching(command, env, **more):
        seen.append((command[3], {name: env.get(name) for name in LAUNCH}))
        return popen(command, env=env, **more)

    monkeypatch.setattr(step_speed.subprocess, "Popen", watching)
    monkeypatch.setattr(os, "environ", os.environ | LAUNCH)
    row = step_speed.measure_steps((ARCH,), 32, 8, 1, rounds=2)[0]
    assert seen == [("ours", LAUNCH), ("baseline", dict.fromkeys(LAUNCH))]
    assert row["ratio"] > 0
    assert row["twin_images_per_s"] > 0
    assert row["threads"] == 1


def test_the_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_the_medians():
    rates = step_speed.compare_rates(10, [[1.0, 3.0], [2.0, 2.0], [4.0, 6.0]])
    assert rates == {"ratio": 1.5, "images_per_s": 5.0, "twin_images_per_s": 3.3}


def test_the_loop_can_be_measured_with_the_devices_augmentation(monkeypatch):
    """What runs on a GPU, its resident pack included, runs here on the CPU."""
    finished, finish = [], DeviceAugment.finish
    monkeypatch.setattr(
        DeviceAugment, "finish", lambda self, *a: finished.append(self.resident_nhwc is not None) or finish(self, *a)
    )
    monkeypatch.setattr(loop_speed, "choose_place", lambda *_: "device")
    monkeypatch.setattr(prepare, "_fits", lambda *_: True)
    loop = loop_speed.measure_loop((ARCH,), 32, 8, 2, "cpu")
    assert loop["augment_on"] == "device"
    assert finished[:4] == [True] * 4
    assert loop["rows"][0]["mode"]["precision"] == "bf16"
