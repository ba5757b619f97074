"""The web page and its server: what they show, and that no client can harm the runner."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.commands.run import drive as command
from inference.commands.run import read_arguments
from inference.decision import Decision, Verdict
from inference.errors import InputError
from inference.process import descriptors, threads
from inference.scene import Scene
from inference.sinks import Outlet
from inference.sinks._board import Board
from inference.sinks._prometheus import escaped, metrics, number
from inference.sinks.web import WebSink, read_address
from inference.states import State
from tests.benchmarks.browser import CHROMIUM, browse
from tests.bundles import make_bundle
from tests.inference.fake_camera import PATIENCE, drive, good, picture

CLASSES = ("car", "truck", "clear")
TOKEN = "grüß-gott"


def verdict(name="ego", state=State.OK, label="car", prob=0.9, rect=(10, 20, 60, 90)):
    return Verdict(name, rect, state, label, "car", prob, "car")


CAR = verdict()


def decision(frame_id=0, state=State.OK, verdicts=(CAR,), drops=0, fresh=True, **more):
    stages = {"read": 5.0, "pre": 1.0, "infer": 2.0, "rest": 0.5} if fresh else {}
    return Decision(frame_id, 0, 12.5, drops, state, tuple(verdicts), stages_ms=stages, fresh=fresh, **more)


def opened(token=None, **about):
    return WebSink("127.0.0.1", 0, token, Board(CLASSES, {"arch": "tiny"}, **about))


@pytest.fixture
def sink():
    sink = opened()
    yield sink
    sink.close()


def ask(sink, path, method="GET", **headers):
    connection = HTTPConnection("127.0.0.1", sink.port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer


def raw(sink, data, wait_s=20.0):
    """Send bytes; return what comes back until the server closes or says no more."""
    with socket.create_connection(("127.0.0.1", sink.port), timeout=wait_s) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while block := client.recv(65536):
            answer += block
        return answer


# --- what is served ---


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


def test_a_picture_is_wanted_only_while_somebody_watches(sink):
    assert not sink.wants_picture()
    ask(sink, "/state.json")
    assert not sink.wants_picture()
    ask(sink, "/state.json?watch=1")
    assert sink.wants_picture()
    assert not sink.wants_picture()  # and not more often than people see


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
    x0, _, x1, _ = json.loads(sink.board.as_json())["picture"]["zones"][0]["rect"]
    shown = cv2.imdecode(np.frombuffer(sink.board.picture(1), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown[:, round(x0 * 120) + 4 : round(x1 * 120) - 4].min() > 200
    assert shown[:, : round(x0 * 120) - 4].max() < 50
    sink.close()


def test_a_wide_picture_is_made_smaller_for_people(sink):
    sink.write(decision(), np.zeros((720, 1280, 3), np.uint8))
    assert cv2.imdecode(np.frombuffer(sink.board.picture(1), np.uint8), 1).shape == (540, 960, 3)
    assert json.loads(sink.board.as_json())["picture"]["width"] == 1280


def test_closing_leaves_no_thread_and_no_descriptor():
    before = threads(), descriptors()
    for _ in range(3):
        sink = opened()
        clients = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(3)]
        ask(sink, "/")
        sink.close()
        for client in clients:
            client.close()
    end = time.monotonic() + 10
    while threads() > before[0] and time.monotonic() < end:  # a thread that was told to end takes its time
        time.sleep(0.01)
    assert threads() <= before[0]
    assert descriptors() <= before[1]


# --- Prometheus ---


def parse(text):
    """Read the text format strictly; return {(name, labels): value}."""
    import re

    label = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
    sample = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({label}(?:,{label})*)\}})? (\S+)")
    assert text.endswith("\n")
    found, typed, done, now = {}, {}, set(), ""
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert word in {"HELP", "TYPE"}
            if word == "HELP":
                assert name not in done, "one group a metric"
                done.add(now := name)
            else:
                assert name == now
                typed[name] = rest
            continue
        name, labels, value = sample.fullmatch(line).groups()
        family = name
        if typed.get(now) == "summary":
            family = name.removesuffix("_sum").removesuffix("_count")
        assert family == now, "samples stand under their TYPE"
        assert (name, labels) not in found
        found[name, labels] = float(value)
    return found, typed


def test_metrics_follow_the_text_format_and_carry_the_numbers(sink):
    hostile = 'a"b\\c\nd'
    for i in range(4):
        sink.write(decision(i, drops=i, verdicts=[verdict(hostile)]), None)
    sink.write(decision(4, State.LOST, (), fresh=False), None)
    sink.write(decision(5, verdicts=[verdict(hostile, prob=1.0)]), None)
    found, typed = parse(ask(sink, "/metrics")[1].decode())
    assert found["rearguard_frames_total", None] == 5
    assert found["rearguard_drops_total", None] == 6
    assert found["rearguard_state", 'state="OK"'] == 1
    assert sum(v for (name, _), v in found.items() if name == "rearguard_state") == 1
    assert found["rearguard_state_changes_total", 'state="LOST"'] == 1
    assert found["rearguard_age_seconds", 'quantile="0.99"'] == pytest.approx(0.0125)
    assert found["rearguard_age_max_seconds", None] == pytest.approx(0.0125)
    assert found["rearguard_infer_seconds_sum", None] == pytest.approx(0.010)
    assert found["rearguard_zone_probability", 'zone="a\\"b\\\\c\\nd"'] == 1
    assert found["rearguard_restarts_total", None] == 0
    assert typed["rearguard_age_seconds"] == "summary"


def test_metrics_before_the_first_decision_are_metrics(sink):
    status, body, answer = ask(sink, "/metrics")
    assert (status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert np.isnan(parse(body.decode())[0]["rearguard_age_seconds", 'quantile="0.5"'])


def test_boxes_whose_names_never_end_make_no_series():
    board = Board(CLASSES, {}, fixed_zones=False)
    board.add(decision(verdicts=[verdict("track4711")]))
    assert b"track4711" not in metrics(board)


def test_a_sink_that_is_off_shows():
    board = Board(CLASSES, {})

    class Dead(WebSink):
        name = "dead"

        def __init__(self):
            pass

        def write(self, decision, frame_bgr):
            raise OSError("gone")

        def close(self):
            pass

    outlet = Outlet(Dead(), lossless=False)
    outlet.post(decision(), None)
    outlet.close()
    board.outlets = [outlet]
    found = parse(metrics(board).decode())[0]
    assert (found["rearguard_sink_up", 'sink="dead"'], found["rearguard_sink_drops_total", 'sink="dead"']) == (0, 1)
    assert json.loads(board.as_json())["sinks"] == [{"name": "dead", "dropped": 1, "error": "OSError: gone"}]


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), (0.25, "0.25"), (float("nan"), "NaN"), (float("inf"), "+Inf")]
)
def test_numbers_are_written_as_go_reads_them(value, text):
    assert number(value) == text


def test_a_label_cannot_end_its_quotes():
    assert escaped('\\"\n') == '\\\\\\"\\n'


# --- who may ask ---


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


@pytest.mark.parametrize("text", ["", "eighty", "8080:", "1.2.3.4:99999", "host:-1", "host:²"])
def test_a_bad_address_is_one_sentence(text):
    with pytest.raises(InputError, match="--web"):
        read_address(text)


def test_with_a_token_nothing_is_served_without_it():
    sink = opened(TOKEN)
    for path in ("/", "/state.json", "/picture.jpg", "/metrics", "/nothing"):
        assert ask(sink, path)[0] == 401
        assert ask(sink, f"{path}?token=wrong")[0] == 401
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


def test_waitress_that_is_missing_is_one_sentence_with_the_mend(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "waitress", None)
    with pytest.raises(InputError, match="pip install waitress"):
        opened()


def test_an_address_that_is_taken_is_one_sentence(sink):
    with pytest.raises(InputError, match=f"127.0.0.1:{sink.port} cannot be opened"):
        WebSink("127.0.0.1", sink.port, None, Board(CLASSES, {}))


@pytest.mark.parametrize("more", [["--web", "nowhere"], ["--web-token", "x"], ["--web", "0", "--web-token", ""]])
def test_what_is_wrong_with_the_command_is_said_before_the_drive(tmp_path, more):
    bundle = make_bundle(tmp_path / "b")
    with pytest.raises(InputError, match="--web"):
        command(read_arguments([str(bundle.path), "--source", "synthetic://?frames=2&width=160&height=90", *more]))


def test_a_whole_drive_with_the_page_ends_as_one_without(tmp_path):
    bundle, source = make_bundle(tmp_path / "b"), "synthetic://?frames=3&width=160&height=90"
    summary = command(read_arguments([str(bundle.path), "--source", source, "--web", "0"]))
    assert summary["sinks"]["web"] == {"written": 3, "dropped": 0, "error": None}


# --- hostile clients ---


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_the_page_is_read_only(sink, method):
    assert ask(sink, "/state.json", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../web.py",
        "/..%2f..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/web.html",
        "/%00",
        "/picture.jpg/..",
        "/" + "a" * 5000,
    ],
)
def test_there_is_nothing_but_the_four_addresses(sink, path):
    status, body, _ = ask(sink, path)
    assert status == 404
    assert b"root:" not in body
    assert b"import" not in body


MALFORMED = {
    "nothing": b"",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "half a line": b"GET /state.js",
    "no version": b"GET /state.json\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a header with a line feed in it": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\n b\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
    "a length below zero": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "a huge length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\nx",
    "broken chunks": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "long headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 500) for i in range(99)),
    "a long line": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "bytes that are no text": b"GET /\xff\xfe?\x80 HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "many in one go": b"GET /state.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_answered_or_closed_and_the_next_client_is_served(sink, data):
    try:
        answer = raw(sink, data)
        assert b"Traceback" not in answer
        assert answer == b"" or answer.startswith(b"HTTP/1")
    except ConnectionError:
        pass
    assert ask(sink, "/state.json")[0] == 200


def test_clients_that_send_or_take_a_byte_at_a_time_hold_nobody_up(sink):
    sink.write(decision(), np.random.default_rng(0).integers(0, 256, (720, 960, 3), np.uint8))
    slow = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(30)]
    for client in slow[:15]:
        client.sendall(b"GET /state.json HT")
    for client in slow[15:]:  # each asks for more than the sockets hold and takes none of it
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /picture.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    assert [ask(sink, "/state.json")[0] for _ in range(5)] == [200] * 5
    for client in slow:
        client.close()


def test_twenty_clients_and_hostile_ones_delay_no_decision(tmp_path):
    sink, stop, answers = opened(), threading.Event(), []

    def watch():
        while not stop.is_set():
            try:
                answers.append(ask(sink, "/state.json?watch=1")[0])
                answers.append(ask(sink, "/picture.jpg")[0])
            except OSError:
                return
            time.sleep(0.1)

    def harm():
        while not stop.is_set():
            for data in MALFORMED.values():
                try:
                    raw(sink, data, 0.5)
                except OSError:
                    continue
            time.sleep(0.05)

    clients = [threading.Thread(target=watch) for _ in range(20)] + [threading.Thread(target=harm)]
    for client in clients:
        client.start()
    done = drive(tmp_path, good(60), sinks=[sink])
    stop.set()
    for client in clients:
        client.join()
    assert (done.error, done.states) == (None, ["OK"])
    assert done.summary["frames"] == len(done.decisions)
    assert done.summary["sinks"]["web"]["error"] is None
    assert np.median([d.age_ms for d in done.decisions]) < 100  # of 200 ms that a mirror's camera may take
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 20


# --- in a browser ---


class Camera:
    """A script for the fake camera: the road, until it is told to stall; ends when told."""

    def __init__(self):
        self.stalled, self.go, self.end = threading.Event(), threading.Event(), threading.Event()
        self._scene = Scene(seed=1, width=320, height=180, scenario="day")

    def __len__(self):
        return 0 if self.end.is_set() else 1 << 30

    def __getitem__(self, n):
        if self.stalled.is_set():
            self.go.wait(60)
        return self._scene.render(n)[0]


PIXELS = """(() => { const c = document.createElement('canvas'), i = document.getElementById('picture');
c.width = 32; c.height = 18; const x = c.getContext('2d'); x.drawImage(i, 0, 0, 32, 18);
return Array.from(x.getImageData(0, 0, 32, 18).data).join() })()"""
WORD = "document.getElementById('word').textContent"
FRAME = "(document.getElementById('picture').dataset.frame ?? '')"


async def until(page, expression, wanted, limit_s=40):
    end = time.monotonic() + limit_s
    while (value := await page.value(expression)) != wanted and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return value


async def open_page(page, url):
    for domain in ("Page", "Runtime", "Log", "Network"):
        await page.call(f"{domain}.enable")
    await page.call("Page.navigate", url=url)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_in_a_browser_the_picture_moves_a_stall_shows_and_so_does_its_end(tmp_path):
    from dataclasses import replace

    camera, sink = Camera(), opened(TOKEN)
    seen = {}
    runner = threading.Thread(
        target=lambda: seen.update(done=drive(tmp_path, camera, sinks=[sink], patience=replace(PATIENCE, hung_s=60)))
    )

    async def visit(page):
        await open_page(page, f"http://127.0.0.1:{sink.port}/?token=gr%C3%BC%C3%9F-gott")
        seen["first"] = await until(page, WORD, "OK")
        await until(page, f"{FRAME} !== ''", True)
        frame, pixels = await page.value(FRAME), await page.value(PIXELS)
        seen["moves"] = await until(page, f"{FRAME} !== '{frame}'", True)
        seen["changes"] = await page.value(PIXELS) != pixels
        camera.stalled.set()
        seen["stalled"] = await until(page, WORD, "STALE")
        seen["reason"] = await page.value("document.getElementById('reason').textContent")
        seen["dead"] = await page.value("document.getElementById('view').classList.contains('dead')")
        camera.stalled.clear()
        camera.go.set()
        seen["again"] = await until(page, WORD, "OK")
        seen["complaints"] = page.complaints

    runner.start()
    try:
        browse(visit)
    finally:
        camera.go.set()
        camera.end.set()
        runner.join()
    ours = (f"asks for http://127.0.0.1:{sink.port}/", f"asks for blob:http://127.0.0.1:{sink.port}/")
    assert (seen["first"], seen["moves"], seen["changes"]) == ("OK", True, True)
    assert (seen["stalled"], seen["dead"], seen["again"]) == ("STALE", True, "OK")
    assert "no frame for" in seen["reason"]
    assert [c for c in seen["complaints"] if not c.startswith(ours)] == []
    assert seen["done"].error is None


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_in_a_browser_a_runner_that_is_gone_or_silent_is_never_taken_for_a_live_one(sink):
    seen = {}
    hostile = decision(verdicts=[verdict("<img src=x onerror=alert(1)>")])

    async def visit(page):
        await open_page(page, f"http://127.0.0.1:{sink.port}/")
        sink.write(hostile, picture(0))
        await until(page, f"{FRAME} !== ''", True)
        sink.write(hostile, None)
        seen["names"] = await until(page, "document.getElementById('zones').textContent.slice(0, 4)", "<img")
        seen["images"] = await page.value("document.images.length")
        seen["wide"] = {}
        for width in (320, 390, 1200):
            await page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1, mobile=width < 600
            )
            seen["wide"][width] = await page.value("document.documentElement.scrollWidth")
        seen["silent"] = await until(page, WORD, "STALE")
        sink.close()
        seen["gone"] = await until(page, WORD, "LOST")

    browse(visit)
    assert seen["names"] == "<img"
    assert seen["images"] == 1
    assert seen["wide"] == {320: 320, 390: 390, 1200: 1200}
    assert (seen["silent"], seen["gone"]) == ("STALE", "LOST")


def test_the_page_asks_for_nothing_from_elsewhere():
    text = Path("inference/sinks/web.html").read_text()
    assert "//" not in text.replace("http://www.w3.org/2000/svg", "")
