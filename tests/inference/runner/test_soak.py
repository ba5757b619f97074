"""The soak: over many frames, with every sink, a watched page and a camera that comes and goes, nothing is held on to.

`make prove` runs 200,000 frames on the null and 20,000 on the ort backend and writes a dated result; `make test` runs
a few, so that the soak itself stays whole.
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm

from benchmarks.measure.machine import describe_machine
from core.codec import to_json
from core.files import write_json
from tests.bundles import make_bundle

ROOT = Path(__file__).parents[3]
WARM = 0.3
"""The first part of a run is not looked at: pools, rings and the allocator's arenas fill."""
NOISE_MB = 1.0
"""A steady growth of less than so much over the whole run is the allocator's. A leak of one small object a frame, 56
bytes, would be 11 MB over the null run and 5.6 MB over the ort run."""
WATCH = """
import http.client, sys, time, urllib.request
while True:
    try:
        for path in ("state.json?watch=1", "picture.jpg", "metrics"):
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/{path}", timeout=5).read()
    except (OSError, http.client.HTTPException):
        pass
    time.sleep(0.1)
"""


def soak(bundle, backend, frames, out, precision="fp32"):
    """Run the soak in its own process while another one watches its page; return what it measured."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tests.inference.runner.soak", str(bundle), "--backend", backend, "--web", port]
    command += ["--frames", str(frames), "--out", str(out), "--precision", precision]
    watcher = subprocess.Popen([sys.executable, "-c", WATCH, port])
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        watcher.kill()
        watcher.wait()
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def slope_of(frames_n, values_n):
    """Return growth a frame with its 95% interval, by least squares with errors robust to what a sample remembers.

    Source: Newey and West 1987 (heteroskedasticity and autocorrelation consistent covariance).
    """
    fitted = sm.OLS(values_n, sm.add_constant(frames_n)).fit(cov_type="HAC", cov_kwds={"maxlags": len(frames_n) // 10})
    low, high = fitted.conf_int(0.05)[1]
    return float(fitted.params[1]), float(low), float(high)


def judge(measured, frames):
    """Return the figures of one soak."""
    series = {name: np.asarray(values, float) for name, values in measured["series"].items()}
    warm = series["frames"] > WARM * frames
    x = series["frames"][warm]
    figures = {"frames": measured["frames"], "seconds": measured["seconds"], "camera_opened": measured["opened"]}
    figures |= {"age_ms": measured["age_ms"], "sinks": measured["sinks"], "states": measured["states"]}
    figures["resident_mb"] = {"at_30_percent": series["resident_mb"][warm][0], "end": series["resident_mb"][-1]}
    slope, low, high = slope_of(x, series["resident_mb"][warm])
    figures["growth_mb_per_million_frames"] = {
        k: round(v * 1e6, 3) for k, v in zip(("slope", "low_95", "high_95"), (slope, low, high), strict=True)
    }
    figures["growth_mb_over_the_run"] = round(slope * frames, 4)
    for name in ("threads", "descriptors"):
        first, last = np.array_split(series[name][warm], 4)[0], np.array_split(series[name][warm], 4)[-1]
        figures[name] = {
            "first": float(np.median(first)),
            "last": float(np.median(last)),
            "max": float(series[name].max()),
        }
    figures["flat"] = bool(low <= 0 or slope * frames < NOISE_MB)
    return figures


def check(figures, frames):
    assert figures["frames"] == frames
    assert {"OK", "LOST"} <= set(figures["states"])
    assert all(sink["error"] is None for sink in figures["sinks"].values())
    assert figures["threads"]["last"] <= figures["threads"]["first"]
    assert figures["descriptors"]["last"] <= figures["descriptors"]["first"] + 1  # a client may be there or not
    assert figures["flat"], figures


def keep(name, figures):
    today = dt.date.today().isoformat()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    facts = {"schema": 1, "soak": name, "date": today, "commit": commit.stdout.strip() or None}
    facts |= {"machine": to_json(describe_machine()), "figures": figures}
    write_json(ROOT / "docs" / "results" / f"soak-{name}-{today}.json", facts)


def test_a_short_soak_runs_every_sink_and_counts_what_there_is(tmp_path):
    measured = soak(make_bundle(tmp_path / "b").path, "null", 600, tmp_path / "out")
    assert measured["frames"] == 600
    assert set(measured["sinks"]) == {"decisions.jsonl", "recorder", "web", "sampler"}
    assert measured["opened"] > 10
    assert all(sink["error"] is None for sink in measured["sinks"].values())


@pytest.mark.parametrize(("leak_bytes", "flat"), [(0, True), (56, False)])
def test_the_judge_finds_a_leak_of_one_small_object_a_frame(leak_bytes, flat):
    random, frames = np.random.default_rng(0), 200_000
    x = np.arange(1, 251) * (frames // 250)
    walk = np.repeat(random.normal(0, 0.2, 25), 10)  # the allocator's steps
    series = {"frames": x.tolist(), "resident_mb": (80 + walk + x * leak_bytes / 1e6).tolist()}
    series |= {"threads": [8] * 250, "descriptors": [20] * 250}
    measured = {"series": series, "frames": frames, "seconds": 1, "opened": 1, "age_ms": {}, "sinks": {}, "states": []}
    assert judge(measured, frames)["flat"] is flat


@pytest.mark.prove
def test_200_000_frames_on_null_hold_on_to_nothing(tmp_path):
    figures = judge(soak(make_bundle(tmp_path / "b").path, "null", 200_000, tmp_path / "out"), 200_000)
    keep("null", figures)
    check(figures, 200_000)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A mobilenet_inspired that was trained for a moment and exported by the command."""
    from export.commands import bundle as export
    from tests.export import runs

    folder = tmp_path_factory.mktemp("soak")
    runs.write_small_pack(folder / "pack")
    runs.write_run(folder / "run", folder / "pack", [runs.train(folder / "pack", "mobilenet_inspired", 60)])
    export.main([str(folder / "run"), "--precisions", "fp32"])
    return folder / "run" / "mobilenet_inspired" / "bundle"


@pytest.mark.prove
def test_100_000_frames_on_ort_hold_on_to_nothing(tmp_path, trained):
    figures = judge(soak(trained, "ort", 100_000, tmp_path / "out"), 100_000)
    keep("ort", figures)
    check(figures, 100_000)
