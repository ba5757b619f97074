"""No client, however malformed, slow or numerous, harms the runner or the next client."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.page_server import BURST_S, REQUESTS_PER_S, Application
from tests.inference.fake_camera import drive, good, picture
from tests.inference.sinks.pages import ask, decision, opened, raw
from tests.waiting import wait_until


@pytest.fixture
def sink():
    sink = opened()
    yield sink
    sink.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_the_page_is_read_only(sink, method):
    assert ask(sink, "/state.json", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../web.py",
        "/..%2f..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/page.html",
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
    except TimeoutError:
        raise
    except OSError:  # closed while we were still talking
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


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=300))
def test_no_crowd_takes_more_of_the_process_than_it_may(pauses):
    application, now, answered = (
        Application(b"<script></script><style></style>", {}, None, loopback_only=True),
        1000.0,
        [],
    )
    for pause in pauses:
        now += pause
        answered.append(now + application._pause_s(now))
    first = answered[0]
    for i, at in enumerate(answered):  # in any window that begins with the first
        assert i <= (at - first) * REQUESTS_PER_S + BURST_S * REQUESTS_PER_S + 1e-6
    assert application._pause_s(now + 60) == 0.0  # and who asks seldom never waits


def drive_amid_clients(folder):
    """Drive while 20 clients watch and one does harm; return the drive, and the status of each answer."""
    sink, stop, answers = opened(), threading.Event(), []

    def last_picture():
        wait_until(lambda: answers.count(200) > 20, "20 answers", lambda: answers)
        return picture(60)

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
    done = drive(folder, [*good(60), last_picture], sinks=[sink])
    stop.set()
    for client in clients:
        client.join()
    return done, answers


def test_twenty_clients_and_hostile_ones_cost_no_decision(tmp_path):
    done, answers = drive_amid_clients(tmp_path)
    assert (done.error, done.states) == (None, ["OK"])
    assert done.summary["frames"] == len(done.decisions)
    assert done.summary["sinks"]["web"]["error"] is None
    assert set(answers) <= {200, 503}


@pytest.mark.prove
def test_twenty_clients_and_hostile_ones_delay_no_decision(tmp_path):
    """Needs a quiet machine: 100 of the 200 ms that a mirror's camera may take."""
    assert np.median([d.age_ms for d in drive_amid_clients(tmp_path)[0].decisions]) < 100
