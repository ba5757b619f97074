"""The report: one page that opens offline, says what was measured and what was not, and is the same for CI."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.choose.policy import Policy
from benchmarks.commands import merge
from benchmarks.measure.accuracy import Predictions, score
from benchmarks.measure.artifacts import read_history
from benchmarks.measure.seeds import judge_seeds
from benchmarks.measure.speed.sustained import describe_sustained
from benchmarks.report import page
from benchmarks.report.examples import as_data_uri, list_flipped, list_worst
from benchmarks.report.render import write_report
from benchmarks.results import read_results
from core.data.pack import open_pack
from core.errors import InputError
from core.files import read_json, write_json
from tests.benchmarks.report.browser import CHROMIUM, browse

EVIL = "</script><img src=x onerror=alert(1)>"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it to look at the report")


@pytest.fixture(scope="module")
def results(measured_run):
    return read_json(measured_run / "report" / "results.json")


@pytest.fixture(scope="module")
def rich(results, measured_run):
    """The results of the tiny run with every part that a large run has: curves, ladder, engines, weather, ages."""
    body = copy.deepcopy(results)
    body["learning"] = {
        "tiny_a": {"epoch": [1, 2], "val_accuracy": [0.5, 0.8], "train_loss": [1.0, None], "rate": [1, 0]}
    }
    interval = {"value": 0.0, "low_95": -0.01, "high_95": 0.01}
    rung = {"name": "int8", "split": "test", "rows": 54, "max_dprob": 0.1, "p99_dprob": 0.05, "top1_agreement": 0.98}
    body["ladder"] = {"tiny_a": [{**rung, "accuracy": 0.8, "accuracy_loss": interval, "flipped": [1]}]}
    facts = {"precision": "int8", "runtime": "tensorrt_rtx", "version": "1.7", "target": "sm86", "state": "built"}
    manifest = {**facts, "proved_on": None, "engine_bytes": 9_000_000, "build_seconds": 1.5, "onnx_sha256": "ab" * 32}
    body["passports"] = [{"arch": "tiny_a", **manifest, "measured": False}]
    cells = {"fog": [0.9, 0.5], "glare": [0.8, 0.2]}
    strangers = {"noise": {"auroc": 0.9, "abstained": 0.5, "n": 9}, "known": {"auroc": None, "abstained": 0.1, "n": 9}}
    for row in body["candidates"]:
        row["age_ms"] = row["latency"]["frame_ms"]
        row["robustness"] = {
            "measured_on": "ort", "rows": 54, "severities": [1, 5], "clean": 0.9, "clean_interval": [0.8, 0.95],
            "mean": 0.6, "relative": 0.66, "worst_class": {"name": "car", "recall": 0.4}, "cells": cells,
            "strangers": strangers,
        }  # fmt: skip
        row["energy_mj"] = 12.5
    windows = [
        {
            "minute": float(i),
            "p50_ms": {row["name"]: 1.0 + i / (2 + k) for k, row in enumerate(body["candidates"])},
            "meters": {"temperature_c": 50.0 + i},
        }
        for i in range(8)
    ]
    body["sustained"] = describe_sustained(
        {"minutes": 8.0, "meters": ["temperature_c"], "windows": windows}, noise_floor=0.01
    )
    body["other_sizes"] = [{**body["candidates"][0], "name": "tiny_a@64 fp32 ort x1", "why_not": "for latency only"}]
    others = {row["name"]: row["predicted"] for row in body["candidates"]}
    body["seeds"] = {
        "seed": 0,
        "trained": {"tiny_a": 0.8},
        "others": [{"run": "other", "seed": 1, "predicted": others, "trained": {"tiny_a": 0.7}}],
    }
    judge_seeds(body, Policy.from_json(body["policy"]))
    body["flipped"] = [{"row": 1, "source": EVIL, "label": "car", "flipped_by": ["tiny_a int8"]}]
    return body


@pytest.fixture(scope="module")
def rich_report(rich, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich") / "report"
    image = np.zeros((32, 32, 3), np.uint8)
    rows = {item["row"] for item in [*rich["worst"], *rich["flipped"]]}
    write_report(folder, [rich], {row: as_data_uri(image) for row in rows})
    return folder


CLOSER = """(() => {
  const marks = () => document.querySelectorAll('#pareto > svg .mark').length;
  const svg = () => document.querySelector('#pareto > svg');
  const go = (type, x, y) => svg().dispatchEvent(
    new PointerEvent(type, {clientX: x, clientY: y, pointerType: 'mouse', pointerId: 1, bubbles: true}));
  SVGElement.prototype.setPointerCapture = () => {};
  const said = document.querySelector('#pareto [role=img]').getAttribute('aria-label'), whole = marks();
  const seen = svg().getBoundingClientRect();
  go('pointerdown', seen.left + 60, seen.top + 12);
  for (const type of ['pointermove', 'pointerup']) go(type, seen.left + 90, seen.top + 60);
  const closer = marks();
  svg().dispatchEvent(new MouseEvent('dblclick'));
  const again = marks(), axis = document.querySelector('#pareto select');
  axis.value = 'mb'; axis.onchange();
  return {said, whole, closer, again, megabytes: marks()};
})()"""


def test_the_page_holds_no_address_and_is_small(rich_report):
    text = (rich_report / "report.html").read_text()
    outside = [
        url
        for url in re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", text)
        if not url.startswith(("data:", "#"))
    ]
    assert outside in ([], ["x"])  # the x is EVIL's, escaped
    assert not [url for url in re.findall(r"https?://[^\s\"<]+", text) if "w3.org" not in url]
    assert len(text) < 5_000_000


def test_no_name_of_a_file_or_class_can_become_a_tag(rich, tmp_path):
    body = copy.deepcopy(rich)
    body["run"] = body["pack"]["classes"][0] = body["candidates"][0]["arch"] = EVIL
    for row in body["candidates"]:
        row["accuracy"]["recalls"] = {EVIL if k == "car" else k: v for k, v in row["accuracy"]["recalls"].items()}
    write_report(tmp_path / "report", [body])
    assert EVIL not in (tmp_path / "report" / "report.html").read_text()


def with_classes(results, n):
    """The same results as if they were of n classes with two test rows each, of which the second is wrong."""
    names, labels = tuple(f"class {i:04d}" for i in range(n)), np.arange(n).repeat(2)
    said = labels.copy()
    said[1::2] = (said[1::2] + 1) % n
    body, accuracy = copy.deepcopy(results), score(Predictions(labels, np.eye(n, dtype=np.float32)[said]), names)
    body["pack"]["classes"] = list(names)
    for row in body["candidates"]:
        row["accuracy"] = accuracy
    return body


def test_sixteen_classes_stand_in_every_matrix(results, tmp_path):
    write_report(tmp_path / "report", [with_classes(results, 16)])
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count('<div class="small-multiples matrices">') == 1  # one below the other, as wide as the page
    assert text.count("<td>class 0015</td>") == 1 + text.count('class="confusion"') > 1


def test_of_a_thousand_classes_the_commonest_mistakes_are_listed(results, tmp_path):
    write_report(tmp_path / "report", [with_classes(results, 1000)])
    html, text = ((tmp_path / "report" / name).read_text() for name in ("report.html", "report.md"))
    assert 'class="confusion"' not in html
    assert html.count("<td>class 0999</td>") == 1
    assert "The 24 commonest of its mistakes" in html
    assert len(html) < 2_000_000
    assert "the 24 lowest of 1000" in text
    assert max(map(len, text.splitlines())) < 2000


def test_the_commonest_mistakes_come_first():
    listed = page.list_confused([[5, 3, 0], [0, 9, 1], [0, 0, 2]], ["bus", "car", "van"])
    assert [(one["true"], one["said"], one["rows"]) for one in listed] == [("bus", "car", 3), ("car", "van", 1)]
    assert listed[0]["part"] == 3 / 8


def test_what_was_not_measured_says_so(rich_report, results, tmp_path):
    assert "not measured" in (rich_report / "report.html").read_text()
    write_report(tmp_path / "report", [results])
    assert "Robustness: not measured" in (tmp_path / "report" / "report.html").read_text()


def test_what_was_cut_is_said_on_both_pages(results, measured_run):
    assert results["protocol"]["cut"]
    for name in ("report.html", "report.md"):
        text = (measured_run / "report" / name).read_text()
        assert all(cut in text for cut in results["protocol"]["cut"])


@needs_chromium
def test_every_chart_is_drawn_offline_without_a_complaint(rich_report):
    async def visit(tab):
        seen = {}
        for name, width, dark in (("light", 1280, False), ("dark", 1280, True), ("phone", 390, False)):
            await tab.show(rich_report / "report.html", width, dark=dark)
            seen[name] = await tab.value(
                "({drawn: [...document.querySelectorAll('figure:not(.pictures figure)')]"
                ".filter(f => !f.querySelector('table')).map(f => f.querySelectorAll(':scope > svg .mark').length),"
                "wide: document.documentElement.scrollWidth, ink: getComputedStyle(document.body).backgroundColor})"
            )
        hidden = await tab.value(
            "(() => {const b = document.querySelector('#pareto .legend button'); b.click();"
            "const left = document.querySelectorAll('#pareto > svg .mark').length;"
            "document.querySelector('#pareto .legend button').click(); return left})()"
        )
        charts = await tab.value(CLOSER)
        return seen, hidden, charts, tab.complaints

    seen, hidden, charts, complaints = browse(visit)
    assert not complaints
    for view in seen.values():
        assert len(view["drawn"]) >= 6
        assert all(view["drawn"])
    assert seen["phone"]["wide"] <= 390, "the page scrolls sideways on a phone"
    assert seen["dark"]["ink"] != seen["light"]["ink"]
    assert 0 < hidden < seen["phone"]["drawn"][0], "a name that is pressed hides its marks"
    assert charts["whole"] == charts["again"] == seen["phone"]["drawn"][0]
    assert charts["closer"] < charts["whole"], "a box that is drawn leaves the marks outside of it out"
    assert charts["megabytes"] == charts["whole"], "every candidate has a size"
    assert "p50" in charts["said"], "a mark says its figures to a screen reader"


def test_merged_devices_keep_their_own_choice(results, tmp_path, capsys):
    other = copy.deepcopy(results)
    other["machine"]["name"] = "the other box"
    for row in other["candidates"]:  # there, only one is within the budget
        row["latency"]["frame_ms"]["p99"] = 40.0 if row["name"] != "tiny_b fp32 ort x1" else 20.0
    write_json(tmp_path / "a.json", results)
    write_json(tmp_path / "b.json", other)
    write_json(tmp_path / "policy.json", {"p99_ms": 30})
    arguments = [str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--out", str(tmp_path / "both")]
    merge.main([*arguments, "--policy", str(tmp_path / "policy.json")])
    said = capsys.readouterr().out
    assert "the other box: tiny_b fp32 ort x1 goes to production" in said
    one, two = read_results(tmp_path / "both" / "results.json")
    assert two["choice"]["chosen"] == "tiny_b fp32 ort x1"
    assert one["choice"]["policy"]["p99_ms"] == 30
    text = (tmp_path / "both" / "report.html").read_text()
    assert one["choice"]["sentence"] in text
    assert two["choice"]["sentence"] in text
    merge.main(arguments)
    assert read_results(tmp_path / "both" / "results.json")[0]["choice"] == results["choice"]


def test_two_of_one_machine_get_different_names(results, tmp_path):
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, results)
    names = [body["machine"]["name"] for body in merge.merge([tmp_path / "a.json", tmp_path / "b.json"])]
    assert len(set(names)) == 2


def test_results_of_other_classes_are_not_merged(results, tmp_path):
    other = {**results, "pack": {**results["pack"], "classes": ["a", "b", "c"]}}
    write_json(tmp_path / "a.json", results)
    write_json(tmp_path / "b.json", other)
    with pytest.raises(InputError, match=r"b\.json has the classes"):
        merge.merge([tmp_path / "a.json", tmp_path / "b.json"])


@pytest.mark.parametrize("body", [[], {}, {"schema": 1}, {"merged": [3]}, {"schema": 99}])
def test_a_file_that_is_no_result_is_refused(tmp_path, body):
    write_json(tmp_path / "x.json", body)
    with pytest.raises(InputError, match=r"x\.json is not results\.json"):
        read_results(tmp_path / "x.json")


def test_the_surest_mistakes_come_first(results, measured_run):
    pack = open_pack(measured_run / "pack")
    chances = [item["probability"] for item in results["worst"]]
    assert chances == sorted(chances, reverse=True)
    assert chances
    for item in results["worst"]:
        assert pack.classes[pack.labels_n[item["row"]]] == item["label"] != item["said"]


def test_nothing_wrong_is_an_empty_gallery(measured_run):
    from benchmarks.measure.accuracy import Predictions

    pack = open_pack(measured_run / "pack")
    labels = pack.labels_n[pack.rows("test")]
    assert list_worst(Predictions(labels, np.eye(3, dtype=np.float32)[labels]), pack) == []


def test_the_row_that_most_files_flip_comes_first(measured_run):
    pack = open_pack(measured_run / "pack")
    rungs = [
        {"name": "int8", "split": "test", "flipped": [5, 7]},
        {"name": "int8 ort", "split": "test", "flipped": [7]},
    ]
    val = [{"name": "int8", "split": "val", "flipped": [1]}]
    listed = list_flipped({"a": rungs, "b": val}, pack)
    assert [item["row"] for item in listed] == [7, 5]
    assert listed[0]["flipped_by"] == ["a int8", "a int8 ort"]


def test_a_flipped_row_says_what_either_side_answered(measured_run):
    pack = open_pack(measured_run / "pack")
    flip = {"row": 7, "torch": {"class": 0, "probability": 0.52}, "file": {"class": 1, "probability": 0.55}}
    (listed,) = list_flipped({"a": [{"name": "int8", "split": "test", "flipped": [7], "flips": [flip]}]}, pack)
    assert listed["flipped_by"] == [f"a int8 ({pack.classes[0]} 52% -> {pack.classes[1]} 55%)"]


def test_of_an_archives_test_rows_the_flipped_ones_are_found_by_their_old_number(measured_run):
    pack = open_pack(measured_run / "pack")
    part = replace(pack, facts={**pack.facts, "taken_rows": [*range(1000, 1000 + len(pack.labels_n))]})
    listed = list_flipped({"a": [{"name": "int8", "split": "test", "flipped": [1007, 7]}]}, part)
    assert [item["row"] for item in listed] == [7]


def test_a_history_with_a_hole_is_read(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,val_loss,note\n1,0.5,x\n2,nan,\n")
    assert read_history(tmp_path / "history.csv") == {"epoch": [1, 2], "val_loss": [0.5, None], "note": [None, None]}
    assert read_history(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    ("column", "figure"),
    [
        ("val_accuracy", "accuracy"),
        ("train_loss", "loss"),
        ("rate", "learning rate"),
        ("lr", "learning rate"),
        ("x", None),
    ],
)
def test_a_column_finds_its_figure(column, figure):
    assert page.figure_of(column) == figure


def test_the_chosen_one_and_the_best_of_each_network_get_pictures(results):
    shown = page.pick_shown(results)
    assert results["choice"]["chosen"] in shown
    assert {name.split()[0] for name in shown} == {"tiny_a", "tiny_b"}


def test_the_model_card_says_what_ships(measured_run):
    text = (measured_run / "production" / "MODEL_CARD.md").read_text()
    choice = read_json(measured_run / "production" / "choice.json")
    assert choice["sentence"] in text
    assert "synthetic data" in text
    bundle = read_json(measured_run / "production" / "bundle.json")
    assert "MODEL_CARD.md" in bundle["files"]
    file = re.search(r"file `([^`]+)`.*sha256 `([0-9a-f]{64})`", text)
    assert bundle["files"][file[1]]["sha256"] == file[2]
    assert json.dumps(bundle["geometry"], sort_keys=True) in text
