"""Every command of the README works as written, on a small run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.bundle.contract import open_bundle
from core.geometry.preprocess import decode, whole
from inference.backends import open_backend
from inference.frame.classifier import RegionClassifier

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
LINES = [
    line.split("    #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
    if line.strip()
]
# CI runs these two itself. There is no camera here, so that command runs on a video; the page gets any free port.
BY_CI = {"make demo", "make test"}
SUBSTITUTES = {"SOURCE=/dev/video0": "SOURCE=road.mp4", "--web 8080": "--web 0"}
SMALL = {
    "make train": "ARGS='--epochs 1 --batch 16' SIZE=32 MODELS=mobilenet_inspired",
    "make export": "ARGS='--precisions fp32 int8'",
    "make benchmark": "ARGS='--quick --backends ort --budget-ms 10000'",
    "make run": "ARGS='--frames 3'",
}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder with the files that the README's commands name, and the module path of this checkout."""
    folder = tmp_path_factory.mktemp("readme")
    noise = np.random.default_rng(0)
    for drive in range(12):
        for number, name in enumerate(("bus", "car")):
            path = folder / "photos" / name / f"drive{drive}_{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.full((48, 48, 3), 60 + 120 * number, np.uint8) + noise.integers(0, 40, (48, 48, 3), np.uint8)
            cv2.imwrite(str(path), image)
    cv2.imwrite(str(folder / "frame.png"), noise.integers(0, 255, (301, 277, 3), np.uint8))
    (folder / "camera.json").write_text('{"zones": {"ego": [0.3, 0.4, 0.7, 1.0]}}')
    video = cv2.VideoWriter(str(folder / "road.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (320, 240))
    for i in range(5):
        video.write(np.roll(noise.integers(0, 255, (240, 320, 3), np.uint8), i, axis=1))
    video.release()
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    return folder


def printed_command(line: str) -> str:
    """Return the command that `make` would run for a README line, with small settings."""
    small = next((text for start, text in SMALL.items() if line.startswith(start)), "")
    make = f"{line} {re.sub('EPOCHS=[0-9]+', '', small)}"
    done = subprocess.run(
        ["bash", "-c", f"make -n -o setup {make.removeprefix('make ')}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_readme_shows_the_commands_of_the_design():
    assert len(LINES) >= 8
    assert set(LINES) >= BY_CI


@pytest.fixture(scope="session")
def failures(workplace):
    """Run every command; return what those said that failed."""
    environment, failures = os.environ | {"PYTHONPATH": str(ROOT)}, []
    for line in [line for line in LINES if line not in BY_CI]:
        command = line
        for written, ours in SUBSTITUTES.items():
            command = command.replace(written, ours)
        command = printed_command(command) if line.startswith("make ") else command
        command = command.replace(".venv/bin/python", shlex.quote(sys.executable))
        done = subprocess.run(
            ["bash", "-c", command], cwd=workplace, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            failures.append(f"{line}\n{command}\n{done.stdout}\n{done.stderr}")
    return failures


def test_every_command_runs_as_written(failures):
    assert not failures, failures[0]


def test_the_lines_for_plain_onnx_runtime_answer_what_the_runner_answers(workplace, failures):
    """The picture is halved three times, once with an odd side; the probabilities must be equal."""
    code = re.search(r"```python\n(.*?)```", TEXT, re.S)[1].replace("frame.jpg", "frame.png")
    done = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bundle = open_bundle(workplace / "runs/mine/mobilenet_inspired/bundle")
    image = decode((workplace / "frame.png").read_bytes())
    probs = RegionClassifier(bundle, open_backend("ort", bundle, "fp32")).classify(image, [whole(image)])
    assert done.stdout.strip() == str(probs)


def test_every_make_target_is_explained():
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M)
    explained = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    hidden = {"lint", "types", "lock"}
    assert [t for t in targets if t not in hidden and f"make {t}" not in explained] == []


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("export/**/*.md")])
def test_every_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
