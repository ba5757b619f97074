"""The page in a headless Chromium: the picture moves, what is wrong shows, and nothing else is asked for."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.synthetic import Scene
from inference.frame.states import State
from tests.browser import CHROMIUM, browse
from tests.inference.fake_camera import TIMEOUTS, drive, picture
from tests.inference.sinks.pages import TOKEN, decision, opened, verdict
from tests.waiting import LONGEST_S


@pytest.fixture
def sink():
    sink = opened()
    yield sink
    sink.close()


class Camera:
    """A script for the fake camera: the road, until it is told to stall; ends when told."""

    def __init__(self):
        self.stalled, self.go, self.end = threading.Event(), threading.Event(), threading.Event()
        self._scene = Scene(seed=1, width=320, height=180, scenario="day")

    def __len__(self):
        return 0 if self.end.is_set() else 1 << 30

    def __getitem__(self, n):
        if self.stalled.is_set():
            self.go.wait(2 * LONGEST_S)
        return self._scene.render(n)[0]


PIXELS = """(() => { const c = document.createElement('canvas'), i = document.getElementById('picture');
c.width = 32; c.height = 18; const x = c.getContext('2d'); x.drawImage(i, 0, 0, 32, 18);
return Array.from(x.getImageData(0, 0, 32, 18).data).join() })()"""
WORD = "document.getElementById('word').textContent"
FRAME = "(document.getElementById('picture').dataset.frame ?? '')"


async def until(page, expression, wanted, meanwhile=lambda: None):
    end = time.monotonic() + LONGEST_S
    while (value := await page.value(expression)) != wanted and time.monotonic() < end:
        meanwhile()
        await asyncio.sleep(0.05)
    return value


async def open_page(page, url):
    for domain in ("Page", "Runtime", "Log", "Network"):
        await page.call(f"{domain}.enable")
    await page.call("Page.navigate", url=url)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_in_a_browser_the_picture_moves_a_stall_shows_and_so_does_its_end(tmp_path):
    camera, sink = Camera(), opened(TOKEN)
    seen = {}
    runner = threading.Thread(
        target=lambda: seen.update(
            done=drive(tmp_path, camera, sinks=[sink], timeouts=replace(TIMEOUTS, stale_intervals=24))
        )
    )

    async def visit(page):
        await open_page(page, f"http://127.0.0.1:{sink.port}/?token=gr%C3%BC%C3%9F-gott")
        seen["first"] = await until(page, WORD, "OK")
        await until(page, f"{FRAME} !== ''", True)
        frame, pixels = await page.value(FRAME), await page.value(PIXELS)
        seen["moves"] = await until(page, f"{FRAME} !== '{frame}'", True)
        seen["changes"] = await until(page, f"{PIXELS} !== '{pixels}'", True)
        camera.stalled.set()
        seen["stalled"] = await until(page, WORD, "STALE")
        # the page itself says STALE while a busy machine holds up its answers
        seen["reason"] = await until(page, "document.getElementById('reason').textContent.slice(0, 12)", "no frame for")
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
    assert seen["reason"] == "no frame for"
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
        name = "document.getElementById('zones').textContent.slice(0, 4)"
        seen["names"] = await until(page, name, "<img", lambda: sink.write(hostile, None))
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


LABEL_AND_BOX = """Array.from(document.querySelectorAll('.box')).map(box => [box, box.querySelector('b')].map(one => {
const r = one.getBoundingClientRect(); return [r.top, r.bottom, r.left, r.right].map(Math.round) })).flat(2).join()"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_in_a_browser_the_label_of_a_small_region_lies_outside_it_and_of_a_large_one_inside(sink):
    seen = []
    rects = {"large": (20, 20, 160, 120), "small": (200, 100, 210, 110), "high": (180, 2, 190, 10)}

    async def visit(page):
        await open_page(page, f"http://127.0.0.1:{sink.port}/")
        sink.write(decision(verdicts=[verdict(name, rect=rect) for name, rect in rects.items()]), picture(0))
        await until(page, "document.querySelectorAll('.box').length", 3)
        seen.extend(map(int, (await page.value(LABEL_AND_BOX)).split(",")))

    browse(visit)
    boxes = [(seen[i : i + 4], seen[i + 4 : i + 8]) for i in range(0, 24, 8)]
    (large, inside), (small, above), (high, below) = boxes
    assert large[0] <= inside[0] < inside[1] < large[1]
    assert above[1] <= small[0] + 2
    assert below[0] >= high[1] - 2


LABELS = """[...document.querySelectorAll('.box b')].map(b => [b.textContent, b.offsetWidth > 0])"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
@pytest.mark.parametrize(("width", "shown"), [(390, [False, True]), (1200, [True, True])])
def test_in_a_browser_a_named_box_lies_over_silent_ones_whose_labels_a_phone_leaves_out(sink, width, shown):
    named = verdict("near", rect=(100, 100, 120, 115))
    silent = verdict("far", state=State.UNKNOWN, label=None, rect=(112, 104, 130, 118))
    seen = []

    async def visit(page):
        size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 600}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        await open_page(page, f"http://127.0.0.1:{sink.port}/")
        sink.write(decision(verdicts=[named, silent]), picture(0))
        await until(page, "document.querySelectorAll('.box').length", 2)
        seen.extend(await page.value(LABELS))

    browse(visit)
    assert [text.split(":")[0] for text, _ in seen] == ["far", "near"]
    assert [is_shown for _, is_shown in seen] == shown


SILENT = ((State.UNKNOWN, "too small"), (State.BLIND, "black"), (State.UNPROVED, None))
REGIONS = """[...document.querySelectorAll('.zone')].map(zone =>
['strong', 'em', '.bar'].map(part => zone.querySelector(part)?.textContent ?? null))"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_in_a_browser_a_probability_stands_beside_a_class_alone_and_the_words_are_the_overlays(sink):
    unknown = verdict(state=State.UNKNOWN, label=None)
    silent = [replace(unknown, state=state, reason=reason) for state, reason in SILENT]
    verdicts = [verdict(), unknown, *silent]
    seen = []

    async def visit(page):
        await open_page(page, f"http://127.0.0.1:{sink.port}/")
        sink.write(decision(verdicts=verdicts), None)
        await until(page, "document.querySelectorAll('.zone').length", len(verdicts))
        seen.extend(await page.value(REGIONS))

    browse(visit)
    assert [said for said, _, _ in seen] == [one.said for one in verdicts]
    assert [chance for _, chance, _ in seen] == ["90 %", "car 90 %", None, None, None]
    assert [bar is not None for _, _, bar in seen] == [True, True, False, False, False]


def test_the_page_asks_for_nothing_from_elsewhere():
    text = Path("inference/sinks/web/page.html").read_text()
    assert "//" not in text.replace("http://www.w3.org/2000/svg", "")
