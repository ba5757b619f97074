"""A headless Chromium, controlled by its debugging protocol: the console of a page, and its appearance."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.request import urlopen

from tornado.websocket import websocket_connect

from tests.waiting import LONGEST_S, wait_until

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Page:
    """An open page. `complaints`: the errors on its console, and its requests for other files."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._id = socket, 0
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, note the events before its answer, and return the answer."""
        self._id += 1
        await self._socket.write_message(json.dumps({"id": self._id, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.read_message(), LONGEST_S))
            if message.get("id") == self._id:
                return message.get("result", {"error": message.get("error")})
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, method: str | None, facts: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(facts["exceptionDetails"].get("exception", {}).get("description", facts)))
        elif method == "Runtime.consoleAPICalled" and facts["type"] in {"error", "warning", "assert"}:
            self.complaints.append(str(facts["args"]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(facts["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not facts["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(f"asks for {facts['request']['url']}")

    async def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return (await self.call("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

    async def show(self, file: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file at a size and in a color scheme, without a network, and wait until it is loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        await self.call("Network.emulateNetworkConditions", **offline)
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        url = file.resolve().as_uri()
        await self.call("Page.navigate", url=url)
        end = monotonic() + LONGEST_S
        # complete: what its script draws while it loads is drawn
        while await self.value("[location.href, document.readyState]") != [url, "complete"] and monotonic() < end:
            await asyncio.sleep(0.05)

    async def picture(self, file: Path) -> None:
        """Write a PNG of the whole page."""
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))


def browse(visit: Any) -> Any:
    """Start a browser, await `visit(page)` in it, stop the browser; return the result of `visit`."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command += [f"--user-data-dir={profile}", "--no-first-run", "--disable-dev-shm-usage", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port_of(Path(profile) / "DevToolsActivePort")
            return asyncio.run(_visit(port, visit))
        finally:
            process.terminate()
            process.wait(LONGEST_S)


def _port_of(file: Path) -> int:
    return int(wait_until(lambda: file.is_file() and file.read_text().splitlines(), "port of chromium")[0])


async def _visit(port: int, visit: Any) -> Any:
    # the browser answers before it has opened its first page
    target = wait_until(lambda: next((t for t in _targets(port) if t["type"] == "page"), None), "page")
    socket = await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=1 << 28)
    return await visit(Page(socket))


def _targets(port: int) -> Any:
    with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LONGEST_S) as answer:
        return json.load(answer)
