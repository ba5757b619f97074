"""The web page's server: what it shows, and to whom."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from core.errors import InputError
from core.machine import descriptors, threads
from inference.commands.run import read_arguments
from inference.commands.run import run_from_args as command
from inference.frame.states import State
from inference.sinks import web
from inference.sinks.web import WebSink, live_status, read_address
from inference.sinks.web.live_status import LiveStatus
from tests.bundles import make_bundle
from tests.inference.sinks.pages import CLASSES, TOKEN, ask, decision, opened
from tests.waiting import LONGEST_S, wait_until


@pytest.fixture
def clock(monkeypatch):
    """The clock of the page, in nanoseconds: it stands still, however long a busy machine takes."""
    clock = SimpleNamespace(now_ns=10**12)
    for module in (web, live_status):
        monkeypatch.setattr(module, "monotonic_ns", lambda: clock.now_ns)
    return clock


@pytest.fixture
def sink(clock):
    sink = opened()
    yield sink
    sink.close()


def test_state_json_says_what_was_decided_and_what_was_lost(sink):
    sink.write(decision(3, drops=2), None)
    sink.write(decision(4, State.STALE, (), fresh=False, reason="no frame for 70 ms"), None)
    facts = json.loads(ask(sink, "/state.json")[1])
    assert (facts["state"], facts["reason"], facts["zones"]) == ("STALE", "no frame for 70 ms", [])
    assert (facts["frames"], facts["drops"]) == (1, 2)
    assert facts["percentiles"]["infer_ms"]["p50"] == 2.0
    assert facts["spark"]["work_ms"][-1] == 3.5  # read is the camera's time, not ours
    assert facts["spark"]["drops"][-1] == 2
    assert facts["picture"] is None


def test_the_time_of_a_detector_is_told_apart_from_the_network(sink):
    sink.write(replace(decision(3), stages_ms={"detect": 7.0, "infer": 2.0}), None)
    percentiles = json.loads(ask(sink, "/state.json")[1])["percentiles"]
    assert (percentiles["detect_ms"]["p50"], percentiles["infer_ms"]["p50"]) == (7.0, 2.0)


def test_the_page_has_a_tone_and_a_meaning_for_every_state():
    page = (Path(web.__file__).parent / "page.html").read_text()
    tones, meanings = (re.search(rf"const {name} = {{(.*?)}};", page, re.DOTALL)[1] for name in ("TONES", "MEANING"))
    for state in State:
        assert f"{state}:" in tones
        assert f"{state}:" in meanings


def test_where_no_frame_was_looked_at_the_latency_has_a_gap_and_the_age_grows(sink):
    sink.write(decision(4, State.STALE, (), fresh=False), None)
    spark = json.loads(sink.status.as_json())["spark"]
    assert (spark["work_ms"][-1], spark["age_ms"][-1]) == (None, 12.5)


def test_a_picture_is_wanted_only_while_somebody_watches(sink, clock):
    assert not sink.wants_picture()
    ask(sink, "/state.json")
    assert not sink.wants_picture()
    ask(sink, "/state.json?watch=1")
    assert sink.wants_picture()
    assert not sink.wants_picture()  # and not more often than people see
    clock.now_ns += web.PICTURE_NS
    assert sink.wants_picture()
    clock.now_ns += live_status.WATCHED_NS
    assert not sink.wants_picture()


def test_the_picture_is_the_one_the_json_speaks_of(sink):
    for i in range(3):
        sink.write(decision(i), np.full((90, 120, 3), 80 * i, np.uint8))
    spoken = json.loads(ask(sink, "/state.json")[1])["picture"]
    assert (spoken["number"], spoken["frame"], spoken["zones"][0]["rect"]) == (3, 2, [0.0833, 0.2222, 0.5, 1.0])
    status, body, answer = ask(sink, "/picture.jpg?number=2")
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert (status, answer.headers["Content-Type"], image.shape) == (200, "image/jpeg", (90, 120, 3))
    assert abs(int(image.mean()) - 80) < 4
    assert ask(sink, "/picture.jpg?number=99")[1] == ask(sink, "/picture.jpg?number=3")[1]


def test_a_mirrored_camera_mirrors_the_picture_and_the_rectangles_with_it():
    sink = opened(mirror=True)
    image = np.zeros((90, 120, 3), np.uint8)
    image[:, 10:60] = 255
    sink.write(decision(), image)
    x0, _, x1, _ = json.loads(sink.status.as_json())["picture"]["zones"][0]["rect"]
    shown = cv2.imdecode(np.frombuffer(sink.status.picture(1), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown[:, round(x0 * 120) + 4 : round(x1 * 120) - 4].min() > 200
    assert shown[:, : round(x0 * 120) - 4].max() < 50
    sink.close()


def test_a_wide_picture_is_made_smaller_for_people(sink):
    sink.write(decision(), np.zeros((720, 1280, 3), np.uint8))
    assert cv2.imdecode(np.frombuffer(sink.status.picture(1), np.uint8), 1).shape == (540, 960, 3)
    assert json.loads(sink.status.as_json())["picture"]["width"] == 1280


def test_closing_leaves_no_thread_and_no_descriptor():
    before = threads(), descriptors()
    for _ in range(3):
        sink = opened()
        clients = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(3)]
        ask(sink, "/")
        sink.close()
        for client in clients:
            client.close()
    wait_until(lambda: threads() <= before[0], "end of the server's threads")
    assert descriptors() <= before[1]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:9", ("::1", 9)),
    ],
)
def test_without_a_host_only_this_machine_is_served(text, address):
    assert read_address(text) == address


def test_the_newer_internet_is_served_too():
    try:
        sink = WebSink("::1", 0, None, LiveStatus(CLASSES, {}))
    except InputError:
        pytest.skip("this machine has no IPv6")
    connection = HTTPConnection("::1", sink.port, timeout=LONGEST_S)
    connection.request("GET", "/state.json")
    assert connection.getresponse().status == 200
    connection.close()
    sink.close()


@pytest.mark.parametrize("text", ["", "eighty", "8080:", "1.2.3.4:99999", "host:-1", "host:²"])
def test_a_bad_address_is_one_sentence(text):
    with pytest.raises(InputError, match="--web"):
        read_address(text)


def test_with_a_token_nothing_is_served_without_it():
    sink = opened(TOKEN)
    for path in ("/", "/state.json", "/picture.jpg", "/metrics", "/nothing"):
        assert ask(sink, path)[0] == 401
        assert ask(sink, f"{path}?token=gr%C3%BC%C3%9F-got")[0] == 401
        assert ask(sink, f"{path}?token=gr%C3%BC%C3%9F-gott0")[0] == 401
    quoted = "gr%C3%BC%C3%9F-gott"
    assert ask(sink, f"/state.json?token={quoted}")[0] == 200
    assert ask(sink, "/state.json", Authorization=f"Bearer {TOKEN}".encode())[0] == 200
    assert ask(sink, "/state.json", Authorization=b"Bearer \xff\xfe")[0] == 401
    assert ask(sink, "/state.json?token=" + "&token=".join("x" * 50))[0] == 401
    sink.close()


def test_a_name_that_is_not_this_machines_is_refused_where_only_it_is_served(sink):
    assert ask(sink, "/state.json", Host="evil.example")[0] == 403
    assert ask(sink, "/state.json", Host=f"localhost:{sink.port}")[0] == 200
    assert ask(sink, "/state.json", Host="[::1]:80")[0] == 200


def test_waitress_that_is_missing_is_one_sentence_with_the_hint(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "waitress", None)
    with pytest.raises(InputError, match="pip install waitress"):
        opened()


def test_an_address_that_is_taken_is_one_sentence(sink):
    with pytest.raises(InputError, match=f"127.0.0.1:{sink.port} cannot be opened"):
        WebSink("127.0.0.1", sink.port, None, LiveStatus(CLASSES, {}))


@pytest.mark.parametrize("more", [["--web", "nowhere"], ["--web-token", "x"], ["--web", "0", "--web-token", ""]])
def test_what_is_wrong_with_the_command_is_said_before_the_drive(tmp_path, more):
    bundle = make_bundle(tmp_path / "b")
    with pytest.raises(InputError, match="--web"):
        command(read_arguments([str(bundle.path), "--source", "synthetic://?frames=2&width=160&height=90", *more]))


def test_a_whole_drive_with_the_page_ends_as_one_without(tmp_path):
    bundle, source = make_bundle(tmp_path / "b"), "synthetic://?frames=3&width=160&height=90"
    summary = command(read_arguments([str(bundle.path), "--source", source, "--web", "0"]))
    assert summary["sinks"]["web"] == {"written": 3, "dropped": 0, "error": None}
