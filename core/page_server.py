"""A server of one read-only page: waitress, pure Python without a dependency.

One thread reads and writes all sockets and two answer, so that a client which sends or takes a byte at a time holds
nobody up. The standard library's servers have one thread for each client, or one for all.
"""

from __future__ import annotations

import hmac
import logging
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_address
from re import DOTALL, findall
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import parse_qs

from core.errors import InputError

LIMITS = {
    "threads": 2,
    "connection_limit": 200,
    "channel_timeout": 10,
    "cleanup_interval": 2,
    "max_request_header_size": 8192,
    "max_request_body_size": 1024,
    "backlog": 64,
    "asyncore_use_poll": True,
    "log_socket_errors": False,
    "ident": None,
}
REQUESTS_PER_S = 100
"""The limit for all clients together. Excess requests wait, because decisions have priority. A page sends its next
request only after the last answer, so that each of twenty pages shows three pictures a second instead of ten."""
BURST_S = 0.2
Answer = tuple[str, str, bytes]
"""Status, content type, body."""
Route = Callable[[dict[str, list[str]]], Answer]
"""Takes the query's values by name and answers."""


class Server:
    """An open address and the threads that serve it."""

    def __init__(self, host: str, port: int, token: str | None, page: bytes, routes: Mapping[str, Route]) -> None:
        try:
            import waitress
        except ImportError:
            raise InputError("--web needs waitress, which is not installed: pip install waitress") from None
        logging.getLogger("waitress").setLevel(logging.CRITICAL)  # hostile requests are not this program's news
        application = Application(page, routes, token, loopback_only=is_loopback(host))
        name = f"[{host}]" if ":" in host else host
        try:
            self._server: Any = waitress.create_server(application, host=name, port=port, **LIMITS)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--web {name}:{port} cannot be opened ({reason}): give another host or port") from None
        self.port = int(self._server.effective_port)
        self._thread = Thread(target=self._server.run, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the server from within its own loop, then its threads."""
        from waitress import wasyncore

        sockets: dict[int, Any] = self._server._map
        with suppress(OSError):  # the loop has ended by itself
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets, ignore_all=True))
        self._thread.join(5)
        self._server.task_dispatcher.shutdown(timeout=2)


class Application:
    """The WSGI application: the page at / and the routes, GET and HEAD, nothing is ever written."""

    def __init__(self, page: bytes, routes: Mapping[str, Route], token: str | None, *, loopback_only: bool) -> None:
        self._loopback_only = loopback_only
        self._token = None if token is None else token.encode()
        self._headers = [
            ("Content-Security-Policy", policy(page.decode())),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ]
        self._lock = Lock()
        self._free_s = 0.0
        """The time at which the next answer is due."""
        self._routes: dict[str, Route] = {"/": lambda query: ("200 OK", "text/html; charset=utf-8", page), **routes}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, when it is due."""
        sleep(self._pause_s(monotonic()))
        status, kind, body = self._answer(environ)
        headers = [*self._headers, ("Content-Type", kind), ("Content-Length", str(len(body)))]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        if status.startswith("401"):
            headers.append(("WWW-Authenticate", "Bearer"))
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _pause_s(self, now_s: float) -> float:
        """Take the next free time for an answer, and return how long to wait for it."""
        with self._lock:
            # a token bucket: unused time is saved up to BURST_S, and each answer uses 1 / REQUESTS_PER_S
            self._free_s = max(self._free_s, now_s - BURST_S) + 1 / REQUESTS_PER_S
            return max(self._free_s - now_s, 0.0)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        if self._loopback_only and not _is_local_name(environ.get("HTTP_HOST", "localhost")):
            return refusal("403 Forbidden", "this page is for this machine: ask for it by the name localhost")
        asked = environ.get("QUERY_STRING", "")
        query = parse_qs(asked) if asked.count("&") < 8 else {}  # parsing many parameters costs the decisions' time
        if self._token is not None and not self._is_known(environ, query):
            return refusal("401 Unauthorized", "the token is missing or wrong: open /?token=TOKEN")
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return refusal("405 Method Not Allowed", "this page is read-only")
        route = self._routes.get(environ.get("PATH_INFO", ""))
        return route(query) if route else refusal("404 Not Found", f"there are {' '.join(self._routes)}")

    def _is_known(self, environ: dict[str, Any], query: dict[str, list[str]]) -> bool:
        """Return whether a request carries the token."""
        assert self._token is not None
        header = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")  # WSGI hands headers on as Latin-1
        in_address = query.get("token", [""])[0].encode("utf-8", "replace")
        given = header.removeprefix(b"Bearer ") or in_address
        return hmac.compare_digest(given, self._token)  # in constant time, which does not tell how much was right


def policy(page: str) -> str:
    """Return a content security policy under which nothing but the page's own script and style does anything."""
    hashes = {
        tag: "'sha256-" + b64encode(sha256(text.encode()).digest()).decode() + "'"
        for tag in ("script", "style")
        for text in findall(f"<{tag}>(.*?)</{tag}>", page, DOTALL)
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def refusal(status: str, text: str) -> Answer:
    """Return an answer of one line of plain text."""
    return status, "text/plain; charset=utf-8", f"{text}\n".encode()


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own, where nobody else can ask."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local_name(header: str) -> bool:
    """Return whether a Host header names this machine. Any other is a foreign page's name that resolves to it."""
    host: str = header.rsplit(":", 1)[0] if header.rpartition(":")[2].isdigit() else header
    return is_loopback(host.removeprefix("[").removesuffix("]"))
