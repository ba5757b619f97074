"""The addresses of the page: its state, its newest picture, its metrics."""

from __future__ import annotations

from pathlib import Path

from core.page_server import Answer, Route, refusal
from inference.sinks.web.live_status import LiveStatus
from inference.sinks.web.prometheus import CONTENT_TYPE, metrics

PAGE = Path(__file__).with_name("page.html")


def routes_of(status: LiveStatus) -> dict[str, Route]:
    """Return the addresses beside the page itself."""

    def state(query: dict[str, list[str]]) -> Answer:
        if "watch" in query:
            status.note_watcher()
        return "200 OK", "application/json", status.as_json()

    def picture(query: dict[str, list[str]]) -> Answer:
        status.note_watcher()
        text = query.get("number", ["0"])[0]
        # anything else is answered with the newest: int() takes other alphabets' digits, and long for a long text
        usable = text.isascii() and text.isdigit() and len(text) < 16
        jpeg = status.picture(int(text) if usable else 0)
        return ("200 OK", "image/jpeg", jpeg) if jpeg else refusal("503 Service Unavailable", "no picture yet")

    return {
        "/state.json": state,
        "/picture.jpg": picture,
        "/metrics": lambda query: ("200 OK", CONTENT_TYPE, metrics(status)),
    }
