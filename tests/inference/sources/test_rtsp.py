"""A camera on the network as it is: a real RTSP server that dies, comes back, wants a password."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.data.recording import RecordedDecision, read_decisions
from core.errors import InputError
from inference.capture.base import SourceLost, SourceRefused
from inference.commands.run import read_arguments, run_from_args
from inference.sources import open_source
from tests.bundles import make_bundle
from tests.inference.sources.rtsp import RtspServer, true_age_ms, why_no_server
from tests.waiting import LONGEST_S, wait_until

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.skipif(bool(why_no_server()), reason=f"no RTSP server: {why_no_server()}"),
    pytest.mark.usefixtures("patient_streams"),
]
OPENINGS = 15
"""A fault of ours spoils the ages of every opening, a machine that is busy those of some."""


@pytest.fixture(scope="module")
def camera():
    server = RtspServer().start()
    yield server
    server.kill()


@pytest.fixture
def mortal():
    server = RtspServer().start()
    yield server
    server.kill()


def read_frame(source):
    """Return a frame, or None. An opening that stalls is tried again, as the runner does it: real servers do that."""
    try:
        return source.read(2.0)
    except SourceLost:
        source.reopen()
        return None


def read_ages(source, count, pause_s=0.0):
    """Return the true ages of frames in milliseconds as they are read, and their ids."""
    ages, ids = [], []
    while len(ages) < count:
        frame = wait_until(lambda: read_frame(source), "frame")
        ages.append(true_age_ms(frame.image_bgr, time.monotonic_ns()))
        ids.append(frame.frame_id)
        time.sleep(pause_s)
    return ages, ids


def read_ages_until(uri, are_good, count, pause_s=0.0, *, skipped=0):
    """Read frames in one opening after the other until their ages and ids are good; `skipped`: those read before."""
    seen = []
    for _ in range(OPENINGS):
        source = open_source(uri)
        try:
            read_ages(source, skipped)
            seen.append(read_ages(source, count, pause_s))
        finally:
            source.close()
        if are_good(*seen[-1]):
            return
    pytest.fail(f"no opening of {OPENINGS} was good: a fault, or a machine that is too slow. Ages in ms, ids: {seen}")


def test_the_first_frame_is_not_one_that_waited_while_the_stream_was_opened(camera):
    """FFmpeg hands out first the second of video that it took in to learn what it is."""
    read_ages_until(camera.uri, lambda ages, _: ages[0] < np.median(ages[10:]) + 400, 30)


def test_a_slow_reader_gets_the_newest_frame_and_the_rest_are_counted(camera):
    # after 8 x 0.3 s a queue would be 2 s long
    read_ages_until(camera.uri, lambda ages, ids: max(ages) < 600 and np.diff(ids).min() >= 3, 8, 0.3, skipped=1)


def test_no_frame_is_held_back_by_the_decoders_threads(camera, monkeypatch):
    """A decoder of n threads holds back n - 1 frames of 33 ms, unseen by any stamp of ours."""
    given = []
    real = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda target, api, options: given.append(options) or real(target, api, options)
    )
    source = open_source(camera.uri)
    try:
        read_ages(source, 1)
    finally:
        source.close()
    assert dict(zip(given[0][::2], given[0][1::2], strict=True))[cv2.CAP_PROP_N_THREADS] == 1


@pytest.mark.parametrize(
    "seconds",
    [
        3,
        pytest.param(120, marks=pytest.mark.prove),
        pytest.param(600, marks=pytest.mark.prove),
    ],
)
def test_the_age_of_frames_does_not_grow(camera, seconds):
    """A reader that is slower than the camera, as a runner with a slow network is: whatever queued would add up."""
    count = round(seconds / 0.05)
    third = count // 3
    read_ages_until(camera.uri, lambda ages, _: np.median(ages[-third:]) < np.median(ages[:third]) + 100, count, 0.05)


def run_command(bundle, uri, folder, frames):
    """Run the real command; return its lines of decisions, and the age and the true age of each in milliseconds."""
    arguments = [bundle, "--backend", "null", "--precision", "fp32", "--source", uri, "--out", folder, "--no-overlay"]
    arguments += ["--record", folder / "record", "--frames", frames]
    run_from_args(read_arguments([str(a) for a in arguments]))
    lines, ages = [], []
    for line in read_decisions(folder / "record"):
        assert isinstance(line, RecordedDecision)
        lines.append(line.body)
        if line.picture is not None:
            image = cv2.imdecode(np.frombuffer(line.picture, np.uint8), cv2.IMREAD_COLOR)
            decided_ns = line.body["captured_ns"] + round(line.body["age_ms"] * 1e6)
            ages.append((line.body["age_ms"], true_age_ms(image, decided_ns)))
    return lines, np.array(ages)


def test_the_age_that_is_reported_counts_from_arrival_and_says_so(camera, tmp_path):
    """It is less than the true age by what encoder, network and decoder take, which no clock of ours sees."""
    lines, ages = run_command(make_bundle(tmp_path / "bundle").path, camera.uri, tmp_path / "out", 30)
    assert {line["age_basis"] for line in lines} == {"arrival"}
    assert (ages[:, 0] < ages[:, 1]).all()


@pytest.mark.prove
@pytest.mark.parametrize("encoder", ["zero latency", "lookahead"])
def test_the_table_of_true_against_reported_age(tmp_path, encoder):
    """It prints the table: the true age is the reported one and what nobody on this side of the network can see."""
    server = RtspServer("", *(["--lookahead"] if encoder == "lookahead" else [])).start()
    try:
        _, ages = run_command(make_bundle(tmp_path / "bundle").path, server.uri, tmp_path / "out", 900)
    finally:
        server.kill()
    print(f"\nencoder: {encoder}; the first decision's true age: {ages[0, 1]:.0f} ms; ms of {len(ages)} decisions:")
    for name, column in (("true", ages[:, 1]), ("reported", ages[:, 0]), ("unseen", ages[:, 1] - ages[:, 0])):
        p50, p90, p99 = np.percentile(column, (50, 90, 99))
        print(f"{name:9} p50 {p50:.1f}  p90 {p90:.1f}  p99 {p99:.1f}  max {column.max():.1f}")
    assert (ages[:, 0] < ages[:, 1]).all()


class RunningCommand:
    """The real command, in a process of its own, and the lines of its file of decisions."""

    def __init__(self, bundle, uri, folder):
        self._journal = folder / "decisions.jsonl"
        options = ["--backend", "null", "--precision", "fp32", "--out", folder, "--no-overlay", "--no-supervise"]
        command = [sys.executable, "-m", "inference", "run", bundle, "--source", uri, *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def lines(self):
        if not self._journal.exists():
            return []
        text = self._journal.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for(self, awaited, is_there):
        """Return the lines as soon as `is_there` holds for them; `awaited` names what it looks for."""

        def lines_that_fit():
            assert self.process.poll() is None, f"the command ended before there was a {awaited}"
            lines = self.lines()
            return lines if is_there(lines) else None

        return wait_until(lines_that_fit, awaited, self.said)

    def said(self):
        return [f"{state} x {len(list(run))}" for state, run in groupby(self.lines(), state_and_reason)]


def state_and_reason(line):
    return f"{line['state']} {line.get('reason', '')}"


def decided(lines):
    return [line["frame"] for line in lines if line["state"] == "OK"]


def test_a_server_that_dies_is_lost_and_comes_back(mortal, tmp_path):
    """A busy machine may lose the camera at other times too: what is looked at is the loss by the server's death."""
    runner = RunningCommand(make_bundle(tmp_path / "bundle").path, mortal.uri, tmp_path / "out")
    try:
        runner.wait_for("frame that is OK", lambda lines: len(decided(lines)) > 5)
        mortal.kill()
        lost = runner.wait_for("refusal", lambda lines: lines and "Connection refused" in state_and_reason(lines[-1]))
        mortal.start()
        lines = runner.wait_for("frame after the new start", lambda lines: len(decided(lines)) > len(decided(lost)) + 5)
        runner.process.send_signal(signal.SIGTERM)
        assert runner.process.wait(LONGEST_S) == 0
    finally:
        runner.process.kill()
        runner.process.wait()
    *_, run = (list(run) for _, run in groupby(lost, lambda line: line["state"]))
    assert run[0]["state"] == "LOST"
    assert re.search("gives no more frames|no frame for", run[0]["reason"])
    assert (np.diff(decided(lines)) > 0).all()  # no id is given twice


def test_a_wrong_path_is_said_by_its_number(camera):
    source = open_source(camera.uri + "-2")
    try:
        with pytest.raises(SourceLost, match="404"):
            source.read(2 * LONGEST_S)
    finally:
        source.close()


def test_a_wrong_password_ends_the_command_and_a_right_one_opens():
    server = RtspServer(password="s3cr:t@").start()
    try:
        for user in ("", "user:wrong@"):
            source = open_source(server.uri.replace("//", f"//{user}"))
            with pytest.raises(InputError, match=r"401, unauthorized.*password"):
                source.read(2 * LONGEST_S)
            source.close()
        source = open_source(server.uri.replace("//", "//user:s3cr%3At%40@"))
        read_ages(source, 1)
        source.close()
    finally:
        server.kill()


def test_a_password_that_was_taken_once_is_tried_again():
    """Within a drive a refusal may pass: the camera restarts, or its user is renewed."""
    source = open_source("rtsp://127.0.0.1:9/x")
    source.close()
    source._next_id = 7
    source._mailbox.close(SourceRefused("401"))
    with pytest.raises(SourceLost, match="401"):
        source.read(0.1)
