"""A web sink by itself, and clients that ask it."""

from __future__ import annotations

import socket
from http.client import HTTPConnection

from inference.frame.decision import Decision, Verdict
from inference.frame.states import State
from inference.sinks.web import WebSink
from inference.sinks.web.live_status import LiveStatus
from tests.waiting import LONGEST_S

CLASSES = ("car", "truck", "clear")
TOKEN = "grüß-gott"


def verdict(name="ego", state=State.OK, label="car", prob=0.9, rect=(10, 20, 60, 90)):
    return Verdict(name, rect, state, label, "car", prob, "car")


CAR = verdict()


def decision(frame_id=0, state=State.OK, verdicts=(CAR,), drops=0, fresh=True, **more):
    stages = {"read": 5.0, "pre": 1.0, "infer": 2.0, "rest": 0.5} if fresh else {}
    return Decision(frame_id, 0, 12.5, drops, state, tuple(verdicts), stages_ms=stages, fresh=fresh, **more)


def opened(token=None, **about):
    return WebSink("127.0.0.1", 0, token, LiveStatus(CLASSES, {"arch": "tiny"}, **about))


def ask(sink, path, method="GET", **headers):
    connection = HTTPConnection("127.0.0.1", sink.port, timeout=LONGEST_S)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer


def raw(sink, data, wait_s=LONGEST_S):
    """Send bytes; return what comes back until the server closes or says no more."""
    with socket.create_connection(("127.0.0.1", sink.port), timeout=wait_s) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while block := client.recv(65536):
            answer += block
        return answer
