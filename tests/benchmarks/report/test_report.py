"""The report: one page that opens offline, says what was measured and what was not, and is the same for CI."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from matplotlib.text import Text

from benchmarks.choose.choice import choose
from benchmarks.commands import merge
from benchmarks.measure.accuracy import score
from benchmarks.measure.artifacts import read_history
from benchmarks.measure.speed.sustained import summarize_sustained
from benchmarks.report import charts
from benchmarks.report.examples import list_flipped, list_worst_rows
from benchmarks.report.plots import plot_pareto
from benchmarks.report.render import render
from benchmarks.report.results_file import DeviceReport, read_reports, write_reports
from benchmarks.results.artifacts import Artifacts, EngineFacts
from benchmarks.results.candidate import NotMeasured, OutOfDistribution, Robustness
from benchmarks.results.run import SeedResult, Seeds, Window
from core.bundle.parity_file import LossInterval, ParityResult
from core.codec import to_json
from core.data.pack import open_pack
from core.errors import InputError
from core.files import read_json, write_json
from core.stats import Interval
from inference.commands import verify
from inference.commands.run import read_arguments
from tests.browser import CHROMIUM, browse

EVIL = "</script><img src=x onerror=alert(1)>"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it to look at the report")


@pytest.fixture(scope="module")
def device(measured_run):
    (read,) = read_reports(measured_run / "report" / "results.json")
    return read


@pytest.fixture(scope="module")
def pack(measured_run):
    """The pack of the tiny run, with a source in its test rows that must not become a tag."""
    pack = open_pack(measured_run / "pack")
    return replace(pack, sources_n=np.array([EVIL] * len(pack.labels_n)))


def with_rows(device, **figures):
    """Return the report with these figures of every candidate."""
    rows = tuple(replace(row, **figures) for row in device.results.candidates)
    return replace(device, results=replace(device.results, candidates=rows))


@pytest.fixture(scope="module")
def rich(device):
    """The report of the tiny run with every part that a large run has: curves, engines, corruptions, ages, seeds."""
    names = [row.name for row in device.results.candidates]
    flips = ParityResult("int8", "test", 54, 0.1, 0.05, 0.98, 0.8, LossInterval(0.0, -0.01, 0.01), (1,))
    engine = EngineFacts(
        "tiny_a", "int8.engine", False, "int8", "tensorrt_rtx", "1.7", "sm86", "built", None, 9_000_000, 1.5, "ab" * 32
    )
    curves = {"epoch": (1.0, 2.0), "val_accuracy": (0.5, 0.8), "train_loss": (1.0, None), "rate": (1.0, 0.0)}
    robustness = Robustness(
        "ort", 54, (1, 5), 0.9, Interval(0.8, 0.95), 0.6, "car", 0.4, {"fog": (0.9, 0.5), "glare": (0.8, 0.2)},
        {"noise": OutOfDistribution(9, 0.5, 0.9)}, 0.1,
    )  # fmt: skip
    windows = tuple(
        Window(float(i), {name: 1.0 + i / (2 + k) for k, name in enumerate(names)}, {"temperature_c": 50.0 + i})
        for i in range(8)
    )
    answers = {row.name: row.accuracy.predicted_n for row in device.results.candidates}
    ages = device.results.candidates[0].latency.frame_ms
    body = with_rows(device, age_ms=ages, robustness=robustness, energy_mj=12.5).results
    other_size = replace(body.candidates[0], arch="tiny_a@64", why_not="for latency only")
    body = replace(
        body,
        artifacts=Artifacts({"tiny_a": curves}, {"tiny_a": (flips,)}, (engine,)),
        sustained=summarize_sustained(8.0, windows, noise_floor=0.01),
        other_sizes=(other_size,),
        seeds=Seeds({"tiny_a": 0.8}, (SeedResult("other", 1, answers, {"tiny_a": 0.7}),)),
    )
    return DeviceReport(body, choose(body, device.choice.policy))


@pytest.fixture(scope="module")
def rich_report(rich, pack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich") / "report"
    render(folder, [rich], pack)
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
    assert set(outside) <= {"x"}  # EVIL's, escaped
    assert not [url for url in re.findall(r"https?://[^\s\"<]+", text) if "w3.org" not in url]
    assert len(text) < 5_000_000


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_how_often_resamples_agree_stands_with_a_warning_where_the_timing_was_disturbed(device, spread, tmp_path):
    noise = replace(device.results.noise, ratio=Interval(1.0, 1.0), spread=spread)
    render(tmp_path / "report", [replace(device, results=replace(device.results, noise=noise))])
    for name in ("report.html", "report.md"):
        text = (tmp_path / "report" / name).read_text()
        after = text.split("give the same choice", 1)[1][:80]
        assert after.startswith("; the timing was disturbed, so another run may choose otherwise") == (spread > 0)


def test_no_name_of_a_file_or_class_can_become_a_tag(rich, pack, tmp_path):
    classes = (EVIL, *rich.results.pack.classes[1:])
    rows = tuple(
        replace(row, arch=f"{EVIL}{row.arch}", accuracy=renamed(row.accuracy, classes))
        for row in rich.results.candidates
    )
    body = replace(rich.results, run=EVIL, pack=replace(rich.results.pack, classes=classes), candidates=rows)
    body = replace(body, seeds=NotMeasured("no"), sustained=NotMeasured("no"))
    render(tmp_path / "report", [DeviceReport(body, choose(body, rich.choice.policy))], pack)
    assert EVIL not in (tmp_path / "report" / "report.html").read_text()


def renamed(accuracy, classes):
    return replace(accuracy, recalls=dict(zip(classes, accuracy.recalls.values(), strict=True)))


def with_classes(device, names):
    """The same report as if it were of these classes with two test rows each, of which the second is wrong."""
    n, labels = len(names), np.arange(len(names)).repeat(2)
    answers = labels.copy()
    answers[1::2] = (answers[1::2] + 1) % n
    accuracy = score(labels, np.eye(n, dtype=np.float32)[answers], names)
    body = with_rows(device, accuracy=accuracy).results
    body = replace(body, labels_n=labels, pack=replace(body.pack, classes=names))
    return DeviceReport(body, replace(device.choice, seeds=NotMeasured("no")))


def numbered(n):
    return tuple(f"class {i:04d}" for i in range(n))


def test_sixteen_classes_stand_in_every_matrix(device, tmp_path):
    render(tmp_path / "report", [with_classes(device, numbered(16))])
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count('<div class="small-multiples matrices">') == 1  # one below the other, as wide as the page
    assert text.count("<td>class 0015</td>") == 1 + text.count('class="confusion"') > 1


def test_of_a_thousand_classes_the_commonest_mistakes_are_listed(device, tmp_path):
    render(tmp_path / "report", [with_classes(device, numbered(1000))])
    html, text = ((tmp_path / "report" / name).read_text() for name in ("report.html", "report.md"))
    assert 'class="confusion"' not in html
    assert html.count("<td>class 0999</td>") == 1
    assert "Its 24 commonest mistakes" in html
    assert len(html) < 2_000_000
    assert "the 24 lowest of 1000" in text
    assert max(map(len, text.splitlines())) < 2000


def test_the_commonest_mistakes_come_first():
    listed = charts.list_confused(np.array([[5, 3, 0], [0, 9, 1], [0, 0, 2]]), ["bus", "car", "van"])
    assert [(mistake.true, mistake.answer, mistake.rows) for mistake in listed] == [
        ("bus", "car", 3),
        ("car", "van", 1),
    ]
    assert listed[0].part == 3 / 8


def test_what_was_not_measured_says_so(rich_report, device, tmp_path):
    assert "not measured" in (rich_report / "report.html").read_text()
    render(tmp_path / "report", [device])
    assert "Robustness: not measured" in (tmp_path / "report" / "report.html").read_text()


def test_the_time_says_in_what_regions_and_the_threshold_what_it_reaches(rich, tmp_path):
    chosen = rich.results.by_name[rich.choice.chosen]
    artifacts = replace(rich.results.artifacts, abstention={chosen.arch: "It answers half of them."})
    protocol = replace(rich.results.protocol, regions="the boxes of a detector, in the time")
    device = replace(rich, results=replace(rich.results, protocol=protocol, artifacts=artifacts))
    render(tmp_path / "report", [device])
    assert "of a frame, in the boxes of a detector, in the time; p99" in (tmp_path / "report/report.html").read_text()
    for name in ("report.html", "report.md"):
        assert "It answers half of them." in (tmp_path / "report" / name).read_text()


def test_what_was_cut_is_said_on_both_pages(device, measured_run):
    assert device.results.protocol.cut
    for name in ("report.html", "report.md"):
        text = (measured_run / "report" / name).read_text()
        assert all(cut in text for cut in device.results.protocol.cut)


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


DASHES = """(() => {
  const line = (name, dash) => ({name, arch: data.archs[0], points: [[1, 1], [2, 2]], precision: name, dash});
  const lines = data.precisions.map(name => line(name, ''));
  drawLines(document.getElementById('risk'), [...lines, line('fp32', '4 3')], '', '');
  const risk = [...document.querySelectorAll('#risk .mark')].map(mark => mark.getAttribute('stroke-dasharray'));
  const learning = document.querySelectorAll('[data-learning] .mark');
  return {risk, learning: [...learning].map(mark => mark.getAttribute('stroke-dasharray'))};
})()"""


@needs_chromium
def test_each_precision_has_its_own_dash_and_a_line_may_have_another(rich, tmp_path):
    rows = list(rich.results.candidates)
    rows += [replace(rows[0], precision="fp16")]
    wide = replace(rich, results=replace(rich.results, candidates=tuple(rows)))
    render(tmp_path, [replace(wide, choice=choose(wide.results, rich.choice.policy))])

    async def visit(tab):
        await tab.show(tmp_path / "report.html")
        return await tab.value(DASHES)

    dashes = browse(visit)
    assert len(set(dashes["risk"])) == len(dashes["risk"]) == 4
    assert dashes["risk"][-1] == "4 3"
    assert "4 3" in dashes["learning"], "the training is dashed, the validation solid"


KEYS = """[...document.querySelectorAll('figure')].filter(figure => figure.querySelector('.key')).map(figure =>
  [figure.querySelectorAll(':scope > svg .mark').length, figure.querySelectorAll('.key span').length])"""


@needs_chromium
def test_a_chart_of_several_lines_names_each_of_them(rich, rich_report):
    async def visit(tab):
        await tab.show(rich_report / "report.html")
        return await tab.value(KEYS), await tab.value("document.querySelectorAll('#risk .key span').length")

    keys, risk = browse(visit)
    assert risk == len(charts.pick_charted(rich))
    assert all(lines == names for lines, names in keys)


WIDE = """[...document.querySelectorAll('table')].filter(table => {
  const box = table.parentElement, scrolls = getComputedStyle(box).overflowX === 'auto';
  return box.getBoundingClientRect().right > document.documentElement.clientWidth
    || table.scrollWidth > box.clientWidth && !scrolls
}).length"""


@needs_chromium
def test_tables_of_14_long_classes_scroll_within_the_page(device, tmp_path):
    classes = tuple(f"{i}_articulated_vehicle_with_a_long_name" for i in range(14))
    render(tmp_path / "report", [with_classes(device, classes)])

    async def visit(tab):
        seen = {}
        for width in (1200, 390):
            await tab.show(tmp_path / "report" / "report.html", width)
            page = await tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            seen[width] = page, await tab.value(WIDE)
        return seen

    assert browse(visit) == {1200: (0, 0), 390: (0, 0)}


def test_the_names_in_the_plot_lie_apart_and_in_the_picture(rich):
    rows = []
    for i in range(30):  # all at one place
        rows.append(replace(rich.results.candidates[0], arch=f"network_{i}"))
    crowd = replace(rich, results=replace(rich.results, candidates=tuple(rows)))
    for device in (rich, crowd):
        figure = plot_pareto(device)
        figure.draw_without_rendering()
        names = figure.axes[0].texts
        boxes = [Text.get_window_extent(name) for name in names]
        assert sorted(name.get_text() for name in names) == sorted(row.name for row in device.results.candidates)
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert all(figure.bbox.containsx(edge) for box in boxes for edge in (box.x0, box.x1))
        assert all(figure.bbox.containsy(edge) for box in boxes for edge in (box.y0, box.y1))


def slow_but_one(device):
    """The report of another machine, on which only one candidate is within the budget."""
    rows = []
    for row in device.results.candidates:
        p99 = 20.0 if row.name == "tiny_b fp32 ort x1" else 40.0
        rows.append(replace(row, latency=replace(row.latency, frame_ms=replace(row.latency.frame_ms, p99=p99))))
    machine = replace(device.results.machine, name="the other box")
    return replace(device, results=replace(device.results, machine=machine, candidates=tuple(rows)))


def test_merged_devices_keep_their_own_choice(device, tmp_path, capsys):
    write_reports(tmp_path / "a", [device])
    write_reports(tmp_path / "b", [slow_but_one(device)])
    write_json(tmp_path / "policy.json", {"p99_ms": 30})
    arguments = [*(str(tmp_path / name / "results.json") for name in "ab"), "--out", str(tmp_path / "both")]
    merge.main([*arguments, "--policy", str(tmp_path / "policy.json")])
    assert "the other box: tiny_b fp32 ort x1 goes to production" in capsys.readouterr().out
    first, second = read_reports(tmp_path / "both" / "results.json")
    assert second.choice.chosen == "tiny_b fp32 ort x1"
    assert first.choice.policy.p99_ms == 30
    text = (tmp_path / "both" / "report.html").read_text()
    assert first.choice.sentence in text
    assert second.choice.sentence in text
    merge.main(arguments)
    assert to_json(read_reports(tmp_path / "both" / "results.json")[0].choice) == to_json(device.choice)


def test_two_of_one_machine_get_different_names(device, tmp_path):
    write_reports(tmp_path, [device])
    names = [body.results.machine.name for body in merge.merge([tmp_path / "results.json"] * 2)]
    assert len(set(names)) == 2


def test_results_of_other_classes_are_not_merged(device, tmp_path):
    pack = replace(device.results.pack, classes=("a", "b", "c"))
    write_reports(tmp_path / "a", [device])
    write_reports(tmp_path / "b", [replace(device, results=replace(device.results, pack=pack))])
    with pytest.raises(InputError, match=r"results\.json differ in their classes \(a, b, c, car, clear\)"):
        merge.merge([tmp_path / name / "results.json" for name in "ab"])


def test_what_is_read_is_what_was_written(rich, tmp_path):
    write_reports(tmp_path, [rich])
    body = read_json(tmp_path / "results.json")
    assert to_json(read_reports(tmp_path / "results.json")[0]) == body["devices"][0] == to_json(rich)
    jsonschema.validate(body, read_json(tmp_path / "results.schema.json"))


def test_results_of_schema_2_are_read(rich, tmp_path):
    write_reports(tmp_path, [rich])
    body = read_json(tmp_path / "results.json") | {"schema": 2}
    for row in body["devices"][0]["results"]["candidates"]:
        row["accuracy"]["confusion"] = [[0] * 3] * 3
    write_json(tmp_path / "results.json", body)
    assert to_json(read_reports(tmp_path / "results.json")[0]) == to_json(rich)


def test_the_confusion_matrix_counts_each_true_class_and_answer(device):
    results, accuracy = device.results, device.results.candidates[0].accuracy
    pairs = list(zip(results.labels_n.tolist(), accuracy.predicted_n.tolist(), strict=True))
    assert charts.confusion_matrix(results, accuracy).tolist() == [
        [pairs.count((i, j)) for j in range(3)] for i in range(3)
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "is not a JSON object"),
        ({"schema": 1, "candidates": []}, "has schema 1, this version reads 2 and 3: measure the run again"),
        ({"schema": 3}, "it lacks the key 'devices'"),
        ({"schema": 3, "devices": []}, "holds no device"),
        ({"schema": 2, "devices": [{"results": 3, "choice": {}}]}, r"devices\[0\]\.results is 3, expected: object"),
    ],
)
def test_a_file_that_is_no_result_of_this_schema_is_refused(tmp_path, body, said):
    write_json(tmp_path / "x.json", body)
    with pytest.raises(InputError, match=rf"x\.json.* {said}"):
        read_reports(tmp_path / "x.json")


def test_the_most_probable_mistakes_come_first(device, pack):
    accuracy = device.results.by_name[device.choice.chosen].accuracy
    listed = list_worst_rows(accuracy, pack)
    chances = [item.probability for item in listed]
    assert chances == sorted(chances, reverse=True)
    assert chances
    for item in listed:
        assert pack.classes[pack.labels_n[item.row]] == item.label != item.answer


def test_nothing_wrong_is_no_example(device, pack):
    accuracy = device.results.candidates[0].accuracy
    assert list_worst_rows(replace(accuracy, predicted_n=device.results.labels_n), pack) == []


def flipping(name, split, *rows, flips=()):
    return ParityResult(name, split, 54, 0.1, 0.05, 0.98, 0.8, LossInterval(0.0, -0.01, 0.01), rows, flips)


def test_the_row_that_most_files_flip_comes_first(pack):
    reports = {
        "a": [flipping("int8", "test", 5, 7), flipping("int8 ort", "test", 7)],
        "b": [flipping("int8", "val", 1)],
    }
    listed = list_flipped(reports, pack)
    assert [item.row for item in listed] == [7, 5]
    assert listed[0].answer == "a int8, a int8 ort"


def test_a_flipped_row_says_what_either_side_answered(pack):
    flip = {"row": 7, "torch": {"class": 0, "probability": 0.52}, "file": {"class": 1, "probability": 0.55}}
    (listed,) = list_flipped({"a": [flipping("int8", "test", 7, flips=(flip,))]}, pack)
    assert listed.answer == f"a int8 ({pack.classes[0]} 52% -> {pack.classes[1]} 55%)"


def test_of_an_archives_test_rows_the_flipped_ones_are_found_by_their_old_number(pack):
    part = replace(pack, metadata={**pack.metadata, "taken_rows": [*range(1000, 1000 + len(pack.labels_n))]})
    assert [item.row for item in list_flipped({"a": [flipping("int8", "test", 1007, 7)]}, part)] == [7]


def test_a_history_with_a_hole_is_read(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,val_loss,note\n1,0.5,x\n2,nan,\n")
    assert read_history(tmp_path / "history.csv") == {"epoch": (1, 2), "val_loss": (0.5, None), "note": (None, None)}
    assert read_history(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("val_accuracy", ["accuracy"]),
        ("train_loss", ["loss"]),
        ("learning_rate", ["learning rate"]),
        ("images_per_s", []),
    ],
)
def test_a_column_finds_its_chart(column, found):
    assert list(charts.collect_learning({"a": {"epoch": (1.0,), column: (0.5,)}})) == found


def test_the_chosen_one_and_the_best_of_each_network_get_charts(device):
    charted = charts.pick_charted(device)
    assert device.choice.chosen in charted
    assert {name.split()[0] for name in charted} == {"tiny_a", "tiny_b"}


def test_the_model_card_says_what_ships(measured_run):
    text = (measured_run / "production" / "MODEL_CARD.md").read_text()
    choice = read_json(measured_run / "production" / "choice.json")
    assert choice["sentence"] in text
    assert "synthetic data" in text
    assert "ms at p99, in one zone" in text
    assert "What the abstain threshold of 0.000 reaches is not known" in text
    bundle = read_json(measured_run / "production" / "bundle.json")
    assert "MODEL_CARD.md" in bundle["files"]
    file = re.search(r"file `([^`]+)`.*sha256 `([0-9a-f]{64})`", text)
    assert bundle["files"][file[1]]["sha256"] == file[2]
    assert json.dumps(bundle["geometry"], sort_keys=True) in text


def test_the_commands_of_the_model_card_can_be_copied(measured_run):
    text = (measured_run / "production" / "MODEL_CARD.md").read_text()
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("    ")]
    verified, ran = (words[3:] for words in commands if "bundle" not in words and words[0] != "./run.sh")
    assert verify.main(verified[1:]) == 0
    assert (verified[0], read_arguments(ran[1:]).bundle) == ("verify", measured_run / "production")


def test_the_p99_budget_is_said_to_be_of_the_whiskers_where_the_axis_is_the_median(device):
    (axes,) = plot_pareto(device).axes
    assert axes.get_xlabel() == "ms per frame, median (whisker: p99)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "p99 budget, 10000 ms, of the whiskers' ends"
    ]
