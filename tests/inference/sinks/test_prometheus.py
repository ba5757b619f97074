"""/metrics follows Prometheus' text format to the letter and carries the numbers of the drive."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.geometry.camera_config import CameraConfig
from inference.backends import open_backend
from inference.frame.processor import FrameProcessor
from inference.frame.states import State
from inference.runner.runner import Runner
from inference.runner.sink_worker import SinkWorker
from inference.sinks import SinkContext
from inference.sinks.web import Options, WebSink, open_sink
from inference.sinks.web.live_status import LiveStatus
from inference.sinks.web.prometheus import escaped, metrics, number
from inference.sources import open_source
from tests.bundles import make_bundle
from tests.inference.frame.detection.test_tracked_regions import Road
from tests.inference.sinks.pages import CLASSES, ask, decision, opened, verdict


@pytest.fixture
def sink():
    sink = opened()
    yield sink
    sink.close()


def parse(text):
    """Read the text format strictly; return {(name, labels): value}."""
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


def test_prometheus_own_client_reads_the_same(sink):
    sink.write(decision(0, drops=2, verdicts=[verdict('a"b\\c\nd')]), None)
    text = metrics(sink.status).decode()
    ours = {(name, labels): value for (name, labels), value in parse(text)[0].items()}
    theirs = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert len(theirs) == len(ours)
    assert {s.labels["zone"] for s in theirs if "zone" in s.labels} == {'a"b\\c\nd'}
    assert sorted(s.value for s in theirs) == sorted(ours.values())


def test_metrics_before_the_first_decision_are_metrics(sink):
    status, body, answer = ask(sink, "/metrics")
    assert (status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert np.isnan(parse(body.decode())[0]["rearguard_age_seconds", 'quantile="0.5"'])


def test_boxes_whose_names_never_end_make_no_series():
    status = LiveStatus(CLASSES, {}, fixed_zones=False)
    status.add(decision(verdicts=[verdict("track4711")]))
    assert b"track4711" not in metrics(status)


def test_a_detector_has_its_time_boxes_tracks_and_failures(tmp_path):
    road, numbers = Road(), iter(range(4))
    answer = road.network.run
    near, far, new, broken = (10, 10, 40, 40), (50, 10, 55, 15), (60, 30, 90, 50), (np.nan,) * 4

    def run(feeds):
        road.show(*[(near, far), (near, far, broken), (near, far, new), (near, far)][next(numbers)])
        return answer(feeds)

    road.network.run = run
    bundle, source = make_bundle(tmp_path / "bundle"), open_source("synthetic://?frames=4&width=320&height=180")
    sink = open_sink(SinkContext(bundle, source, CameraConfig(), road.regions, ()), Options(web="0"))
    worker = SinkWorker(sink, waits=True)
    with open_backend("null", bundle, "fp32", batch=16) as backend:
        Runner(FrameProcessor(bundle, backend, road.regions), source, [worker]).run()
    worker.close()
    found = parse(metrics(sink.status).decode())[0]
    assert found["rearguard_boxes", None] == 2
    assert sum(value for (name, _), value in found.items() if name == "rearguard_boxes_total") == 2 + 3 + 2
    assert found["rearguard_boxes_total", 'said="too small"'] == 3
    assert found["rearguard_tracks_total", None] == 3
    assert found["rearguard_detector_failures_total", None] == 1
    assert found["rearguard_detect_seconds_count", None] == 4
    assert found["rearguard_detect_seconds_sum", None] > 0


def test_without_a_detector_nothing_is_said_of_one(sink):
    sink.write(decision(), None)
    found = parse(ask(sink, "/metrics")[1].decode())[0]
    assert not {"detect", "detector", "boxes", "tracks"} & {name.split("_")[1] for name, _ in found}


def test_a_sink_that_is_off_shows():
    status = LiveStatus(CLASSES, {})

    class Dead(WebSink):
        name = "dead"

        def __init__(self):
            pass

        def write(self, decision, frame_bgr):
            raise OSError("gone")

        def close(self):
            pass

    worker = SinkWorker(Dead(), waits=False)
    worker.submit(decision(), None)
    worker.close()
    status.add(decision(sinks=(worker.status,)))
    found = parse(metrics(status).decode())[0]
    assert (found["rearguard_sink_up", 'sink="dead"'], found["rearguard_sink_drops_total", 'sink="dead"']) == (0, 1)
    assert json.loads(status.as_json())["sinks"] == [{"name": "dead", "dropped": 1, "error": "OSError: gone"}]


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), (0.25, "0.25"), (float("nan"), "NaN"), (float("inf"), "+Inf")]
)
def test_numbers_are_written_as_go_reads_them(value, text):
    assert number(value) == text


def test_a_label_cannot_end_its_quotes():
    assert escaped('\\"\n') == '\\\\\\"\\n'
