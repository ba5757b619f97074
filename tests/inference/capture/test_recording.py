"""What is recorded is what is replayed: frames, ids, times, drops, truth; also after a kill or on a full disk."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cli import run_command
from core.data.recording import pictures_of, segments_of
from core.errors import InputError
from core.files import write_json
from inference.capture import segment_writer
from inference.capture.base import EndOfStream
from inference.capture.live import play_in_real_time
from inference.capture.segment_writer import SegmentWriter
from inference.commands.run import describe, main, read_arguments
from inference.commands.run import run_from_args as command
from inference.frame.decision import Decision, Verdict
from inference.frame.states import State
from inference.sinks.recorder import RecorderSink
from inference.sources import open_source
from tests.bundles import make_bundle
from tests.inference.fake_camera import drive, good
from tests.inference.runner.test_region_choice import write_detector
from tests.inference.sources.videos import noise, write_images, write_video
from tests.waiting import LONGEST_S, wait_until

ROOT = Path(__file__).parents[3]
CAMERA = SimpleNamespace(fps=25.0, sequence=True, synthetic=False)
ZONES = {"ego": (0.25, 0.0, 0.75, 1.0)}
BIG = 1 << 30


def recorder(folder, limit_bytes=BIG, lossless=True):
    folder.mkdir(exist_ok=True)
    return RecorderSink(folder, CAMERA, ZONES, (), limit_bytes, lossless)


def decided(frame_id, media_ns=0, drops=0, truth=None, fresh=True, name=""):
    verdicts = (Verdict("ego", (0, 0, 4, 4), State.OK, "car", "car", 0.9, "car", truth),) if fresh else ()
    state = State.OK if fresh else State.STALE
    return Decision(frame_id, media_ns, 1.0, drops, state, verdicts, media_ns / 1e6, name, fresh=fresh)


def record(folder, count, limit_bytes=BIG, lossless=True):
    sink = recorder(folder, limit_bytes, lossless)
    for i in range(count):
        sink.write(decided(i, i * 40_000_000), noise(i))
    sink.close()
    return folder


def replayed(folder):
    source, frames = open_source(f"replay://{folder}"), []
    try:
        while True:
            frames.append(source.read(1.0))
    except EndOfStream:
        return frames
    finally:
        source.close()


FRAMES = st.lists(
    st.tuples(
        st.integers(0, 3),  # drops before it
        st.integers(0, 10**10),  # ns since the last
        st.integers(1, 9),
        st.integers(1, 9),
        st.sampled_from([None, "car", "grün"]),
        st.booleans(),  # a decision without a frame comes first
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(FRAMES, st.integers(0, 10**15), st.integers(300, 5000))
def test_what_is_recorded_is_what_is_replayed(frames, start_ns, segment_bytes):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sink, written, frame_id, now = recorder(folder), [], -1, start_ns
        sink._writer._limit = BIG
        segment_writer.SEGMENTS, kept = BIG // segment_bytes, segment_writer.SEGMENTS
        try:
            for drops, pause, height, width, truth, gap in frames:
                if gap:
                    sink.write(decided(frame_id, now, fresh=False), None)
                frame_id, now = frame_id + 1 + drops, now + pause
                image = np.random.default_rng(frame_id).integers(0, 256, (height, width, 3), np.uint8)
                sink.write(decided(frame_id, now, drops, truth, name="a.png"), image)
                written.append((frame_id, now, drops, {"ego": truth} if truth else {}, "a.png", image.tobytes()))
        finally:
            segment_writer.SEGMENTS = kept
            sink.close()
        if not written:
            return
        seen = replayed(folder)
        assert [
            (f.frame_id, f.media_ns, f.drops, f.ground_truth, f.name, f.image_bgr.tobytes()) for f in seen
        ] == written


def test_the_replay_has_the_rate_and_the_zones_of_what_was_recorded(tmp_path):
    source = open_source(f"replay://{record(tmp_path / 'r', 1)}")
    assert (source.fps, source.zones, source.live, source.sequence, source.synthetic) == (
        25.0,
        ZONES,
        False,
        True,
        False,
    )


def test_lossy_pictures_are_near(tmp_path):
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    sink = recorder(tmp_path / "r", lossless=False)
    sink.write(decided(0), smooth)
    sink.close()
    assert pictures_of(segments_of(tmp_path / "r")[0]).suffix == ".mjpeg"
    assert np.abs(replayed(tmp_path / "r")[0].image_bgr.astype(int) - smooth).mean() < 3


@settings(max_examples=25)
@given(st.data())
def test_whatever_a_kill_leaves_the_whole_frames_before_it_are_replayed(data):
    with tempfile.TemporaryDirectory() as name:
        folder = record(Path(name), 6)
        whole = [f.image_bgr.tobytes() for f in replayed(folder)]
        index = segments_of(folder)[0]
        for file in (index, pictures_of(index)):
            size = file.stat().st_size
            with file.open("r+b") as stream:
                stream.truncate(data.draw(st.integers(size // 3, size)))
        left = [f.image_bgr.tobytes() for f in replayed(folder)]
        assert left == whole[: len(left)]
        assert len(left) >= 1


def test_only_the_frames_of_damaged_lines_and_pictures_are_left_out_counted_and_named(tmp_path, caplog):
    folder = record(tmp_path / "drive", 8)
    (index,) = segments_of(folder)
    lines, pictures = index.read_bytes().splitlines(keepends=True), bytearray(pictures_of(index).read_bytes())
    where = json.loads(lines[5])["picture"]
    pictures[where["at"] + 5 : where["at"] + 50] = bytes(45)
    index.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[3:7], lines[7][:-9]]))
    pictures_of(index).write_bytes(pictures)
    summary = run(make_bundle(tmp_path / "b"), "--source", f"replay://{folder}", "--out", tmp_path / "out")
    assert [line["frame"] for line in said(tmp_path / "out")] == [0, 1, 3, 4, 6]
    assert summary["source_report"] == {"frames": 5, "skipped": 3, "first_skipped": f"{index}, line 3"}
    assert "frames      5  drops 0  damaged and skipped 3" in describe(summary)
    assert f"{index}, line 3: its frame is damaged and skipped" in caplog.text


def test_a_damaged_picture_is_never_shown(tmp_path):
    folder = record(tmp_path / "r", 3, lossless=False)  # what is in a JPEG is not checked by its decoder
    file = pictures_of(segments_of(folder)[0])
    body = bytearray(file.read_bytes())
    body[-200] ^= 1
    file.write_bytes(body)
    assert [f.frame_id for f in replayed(folder)] == [0, 1]


def test_a_frame_that_cannot_be_decoded_is_skipped_counted_and_named(tmp_path, caplog):
    folder = record(tmp_path / "r", 4)
    index = segments_of(folder)[0]
    pictures, lines = bytearray(pictures_of(index).read_bytes()), index.read_text().splitlines()
    for number in (1, 2):  # whole on the disk, as their checksums say, and no pictures
        body = json.loads(lines[number])
        where = body["picture"]
        pictures[where["at"] : where["at"] + where["bytes"]] = bytes(where["bytes"])
        where["crc32"] = crc32(bytes(where["bytes"]))
        lines[number] = json.dumps(body)
    pictures_of(index).write_bytes(pictures)
    index.write_text("".join(line + "\n" for line in lines))
    source = open_source(f"replay://{folder}")
    assert [source.read(1.0).frame_id for _ in range(2)] == [0, 3]
    assert source.report() == {"frames": 2, "skipped": 2, "first_skipped": f"{index}, line 2"}
    assert caplog.text.count("skipped") == caplog.text.count("line 2") == 1


def test_the_ring_keeps_the_newest_within_its_limit(tmp_path):
    limit = 200_000
    sink = recorder(tmp_path / "r", limit)
    for i in range(120):
        sink.write(decided(i), noise(i))
        assert sum(f.stat().st_size for f in (tmp_path / "r").iterdir() if f.stem.isdigit()) <= limit
    sink.close()
    ids = [f.frame_id for f in replayed(tmp_path / "r")]
    assert ids == list(range(ids[0], 120))
    per_frame = limit / len(ids)
    assert len(ids) * per_frame > limit * (1 - 2 / segment_writer.SEGMENTS)
    assert len(ids) > 8


def test_a_picture_larger_than_the_ring_ends_the_recorder_in_one_sentence(tmp_path):
    sink = recorder(tmp_path / "r", 5000)
    with pytest.raises(InputError, match="--record-mb"):
        sink.write(decided(0), noise(0))


def test_a_worker_that_was_started_again_goes_on_in_a_new_segment(tmp_path):
    record(tmp_path / "r", 3)
    index = segments_of(tmp_path / "r")[0]
    index.write_bytes(index.read_bytes()[:-7])
    record(tmp_path / "r", 2)
    assert [f.frame_id for f in replayed(tmp_path / "r")] == [0, 1, 0, 1]


def test_a_full_disk_ends_the_recorder_with_one_event_and_the_decisions_go_on(tmp_path, monkeypatch, capsys):
    write = SegmentWriter.write

    def full(self, decision, picture):
        if decision.frame_id >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, decision, picture)

    monkeypatch.setattr(SegmentWriter, "write", full)
    done = drive(tmp_path, good(10), sinks=[recorder(tmp_path / "r")])
    assert (done.error, done.states, len(done.decisions)) == (None, ["OK"], done.summary["frames"])
    assert "No space left" in done.summary["sinks"]["recorder"]["error"]
    assert capsys.readouterr().err.count("is off") == 1
    assert len(replayed(tmp_path / "r")) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_takes_no_byte_is_noticed_with_the_first(tmp_path):
    sink = recorder(tmp_path / "r")
    sink.write(decided(0), noise(0))
    sink._writer._pictures = Path("/dev/full").open("ab")  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        sink.write(decided(1), noise(1))
    sink.close()
    assert [f.frame_id for f in replayed(tmp_path / "r")] == [0]


def run(bundle, *arguments):
    return command(read_arguments([str(bundle.path), "--no-overlay", *map(str, arguments)]))


def said(out):
    keep = ("frame", "media_ms", "drops", "state", "zones")
    return [{k: line[k] for k in keep} for line in map(json.loads, (out / "decisions.jsonl").open())]


def test_a_replayed_drive_says_what_the_drive_said(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    source = "synthetic://?frames=6&width=160&height=90&scenario=day"
    (tmp_path / "camera.json").write_text('{"rotation": 180, "crop": [0, 0.1, 0.9, 1]}')
    camera = ("--camera", tmp_path / "camera.json", "--out")
    run(bundle, "--source", source, "--record", tmp_path / "r", "--record-lossless", *camera, tmp_path / "first")
    run(bundle, "--source", f"replay://{tmp_path / 'r'}", "--out", tmp_path / "second")
    assert said(tmp_path / "first") == said(tmp_path / "second")
    assert len(said(tmp_path / "first")) == 6
    again = ("--camera", tmp_path / "r" / "camera.json", "--out", tmp_path / "third")
    run(bundle, "--source", f"replay://{tmp_path / 'r'}", *again)
    assert said(tmp_path / "third") == said(tmp_path / "first")


def test_a_replay_says_in_what_it_differs_from_the_recorded_run(tmp_path, caplog):
    bundle, other = make_bundle(tmp_path / "b"), make_bundle(tmp_path / "other", precisions=("fp32",))
    detector, file = write_detector(tmp_path / "d.onnx"), tmp_path / "r" / "recording.json"
    behind = ("--detector", detector)
    run(bundle, "--source", "synthetic://?frames=3&width=160&height=90", "--record", tmp_path / "r", *behind)

    def told(bundle, *flags):
        caplog.clear()
        run(bundle, "--source", f"replay://{tmp_path / 'r'}", *flags)
        (line,) = [text for text in caplog.messages if "differs from the recorded run" in text] or [""]
        return line

    assert not told(bundle, *behind)
    assert "the detector was d.onnx, there is none: give it with --detector" in told(bundle)
    assert "the bundle was " in told(other, *behind)
    write_json(tmp_path / "camera.json", {"regions": {"detector": "d.onnx", "threshold": 0.5}})
    assert "the detector's threshold was 0.3, it is 0.5" in told(bundle, "--camera", tmp_path / "camera.json")
    write_detector(detector, (20, 20, 50, 50, 0.9, 0))
    assert "the detector was d.onnx " in told(bundle, *behind)
    facts = json.loads(file.read_text())
    write_json(file, {**facts, "configuration": {"bundle": 1}})
    with pytest.raises(InputError, match=r"recording\.json: .*arch"):
        told(bundle)
    # one of an earlier version does not know what ran
    write_json(file, {name: value for name, value in facts.items() if name != "configuration"} | {"schema": 1})
    assert not told(bundle)


def test_boxes_are_recorded_with_the_frames_they_belong_to(tmp_path):
    bundle, video = make_bundle(tmp_path / "b"), write_video(tmp_path / "v.mp4", frames=3)
    (tmp_path / "boxes.jsonl").write_text('{"frame": 1, "boxes": [{"rect": [5, 5, 40, 40], "truth": "car"}]}\n')
    boxes = ("--boxes", tmp_path / "boxes.jsonl", "--out")
    first = run(bundle, "--source", video, "--record", tmp_path / "r", "--record-lossless", *boxes, tmp_path / "first")
    boxes = ("--boxes", tmp_path / "r" / "boxes.jsonl", "--out", tmp_path / "second")
    second = run(bundle, "--source", f"replay://{tmp_path / 'r'}", *boxes)
    assert said(tmp_path / "first") == said(tmp_path / "second")
    assert first["accuracy"] == second["accuracy"] != None  # noqa: E711


def test_a_folder_of_pictures_stays_one(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    first = run(bundle, "--source", write_images(tmp_path / "images"), "--record", tmp_path / "r", "--record-lossless")
    second = run(bundle, "--source", f"replay://{tmp_path / 'r'}")
    assert first["accuracy"] == second["accuracy"]
    assert second["habits"] is None


def test_in_real_time_the_pauses_are_those_of_the_recording(tmp_path, monkeypatch):
    sink, slept = recorder(tmp_path / "r"), []
    for i, ms in enumerate((9_000_000, 9_000_100, 9_000_350)):
        sink.write(decided(10 + 2 * i, ms * 1_000_000, drops=1), noise(i))
    sink.close()
    monkeypatch.setattr("inference.capture.live.sleep", slept.append)
    monkeypatch.setattr("inference.capture.live.monotonic_ns", lambda: 0)
    source = play_in_real_time(open_source(f"replay://{tmp_path / 'r'}"))
    source._thread.join(LONGEST_S)
    assert [round(s, 6) for s in slept] == [0.1, 0.35]
    assert source.read(1.0).frame_id == 14


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("nowhere", None, "not a folder"),
        ("r", None, "has no recording.json"),
        ("r", "[]", "not a JSON object"),
        ("r", '{"schema": 1, "fps": 0, "zones": {}}', "fps"),
        ("r", '{"schema": 1, "fps": 25, "zones": {"a": [1, 2]}}', "zones.a"),
        ("r", '{"schema": 1, "fps": 25, "zones": {"a": [0, 0, 1%s, 1]}}' % ("0" * 400), "zones.a"),
        ("r", '{"schema": 1, "fps": 25, "zones": {"\\ud800": [0, 0, 1, 1]}}', "name"),
        ("r", '{"schema": 1, "fps": 25, "zones": {}}', "no whole frame"),
        ("r", '{"schema": 3, "fps": 25, "zones": {}}', "has schema 3, this version reads 2"),
    ],
)
def test_what_is_no_recording_is_one_sentence(tmp_path, name, text, named):
    (tmp_path / "r").mkdir()
    if text is not None:
        (tmp_path / "r" / "recording.json").write_text(text)
    with pytest.raises(InputError, match=named):
        replayed(tmp_path / name)


def test_a_recording_is_not_recorded_over(tmp_path):
    record(tmp_path / "r", 1)
    bundle = make_bundle(tmp_path / "b")
    with pytest.raises(InputError, match="another folder"):
        run(bundle, "--source", "synthetic://?frames=1&width=160&height=90", "--record", tmp_path / "r")
    assert len(replayed(tmp_path / "r")) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--record", "/proc/nowhere"], "/proc/nowhere cannot be used"),
        (["--out", "/proc/nowhere"], "/proc/nowhere cannot be used"),
        (["--record", "r", "--record-mb", "0"], "--record-mb is 0"),
    ],
)
def test_what_cannot_be_recorded_to_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, named):
    bundle = make_bundle(tmp_path / "b")
    monkeypatch.setattr("sys.argv", ["inference", "run", *arguments])
    capsys.readouterr()
    assert run_command(lambda: run(bundle, "--source", "synthetic://?frames=1&width=160&height=90", *arguments)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert named in said[0]


@given(st.binary(max_size=200))
@settings(max_examples=30)
def test_no_line_however_damaged_breaks_a_replay(text):
    with tempfile.TemporaryDirectory() as name:
        folder = record(Path(name), 1)
        with segments_of(folder)[0].open("ab") as stream:
            stream.write(text + b"\n")
        assert replayed(folder)[0].frame_id == 0


HOSTILE = [
    {"picture": {"at": -1, "bytes": 10, "crc32": 0}},
    {"picture": {"at": 0, "bytes": 1 << 60, "crc32": 0}},
    {"picture": {"at": 1e400, "bytes": 1, "crc32": 0}},
    {"picture": {"at": 1 << 63, "bytes": 1, "crc32": 0}},
    {"picture": []},
    {"picture": {"at": 0, "bytes": 1, "crc32": None}},
    [],
    {"zones": 3},
]


@pytest.mark.parametrize("body", HOSTILE, ids=str)
def test_no_line_of_hostile_numbers_breaks_a_replay(tmp_path, body):
    folder = record(tmp_path / "r", 1)
    with segments_of(folder)[0].open("ab") as stream:
        stream.write(json.dumps(body).encode() + b"\n")
    assert [f.frame_id for f in replayed(folder)] == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"media_ns": 10**400}, {"frame": 1 << 63}, {"drops": -(1 << 63)}, {"media_ns": "x"}),
        *({"zones": {"a": {"truth": [1]}}}, {"zones": {"a": {"truth": {}}}}, {"zones": {"a": {"truth": 1}}}),
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_frame_of_hostile_facts_is_left_out(tmp_path, wrong):
    folder = record(tmp_path / "r", 2)
    index = segments_of(folder)[0]
    first, second = map(json.loads, index.read_text().splitlines())
    index.write_text(f"{json.dumps(first | wrong)}\n{json.dumps(second)}\n")
    assert [frame.frame_id for frame in replayed(folder)] == [second["frame"]]


def test_a_process_that_was_killed_leaves_a_recording(tmp_path):
    bundle, folder = make_bundle(tmp_path / "b"), tmp_path / "r"
    source = "synthetic://?frames=0&width=64&height=64"  # a picture is smaller than a file's buffer
    arguments = ["run", str(bundle.path), "--source", source, "--backend", "null", "--record", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "inference", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: segments_of(folder) and segments_of(folder)[0].stat().st_size > 3000, "recording")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(LONGEST_S)
    whole = segments_of(folder)[0].read_bytes().count(b"\n")
    assert [f.frame_id for f in replayed(folder)] == list(range(whole))
    assert whole > 3


def test_a_second_runner_that_would_record_into_the_same_folder_is_refused_at_the_start(tmp_path, capsys):
    first = recorder(tmp_path / "r")
    bundle = make_bundle(tmp_path / "bundle")
    asked = [str(bundle.path), "--source", "synthetic://?frames=3", "--record", str(tmp_path / "r")]
    assert run_command(lambda: main(asked)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: another runner records into {tmp_path / 'r'}: give --record another folder"
    )
    first.write(decided(0), noise(0))
    first.close()
    assert len(replayed(tmp_path / "r")) == 1
    recorder(tmp_path / "r").close()
