"""No secret reaches an output: of every scheme, in every output, however an address gets into it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from urllib.parse import quote

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cli import run_command
from core.errors import InputError
from core.redact import public_text, public_uri
from inference.capture.base import SourceLost
from inference.capture.live import LiveSource
from inference.capture.reader import CaptureReader
from inference.commands.run import main
from inference.sources import GRAMMAR, schemes
from inference.sources.synthetic import DEFAULTS
from tests.bundles import make_bundle
from tests.inference.fake_camera import drive, good, raising
from tests.inference.sources.test_network_sources import Camera, serving
from tests.waiting import LONGEST_S

ROOT = Path(__file__).parents[2]
USER, TOKEN = "gardener", "T0kenValue"
PASSWORDS = [
    "S3cret",
    "S3cret@word",
    quote("S3cret@w/rd", safe=""),
    "S3cret/word",
    "S3cret:word",
    "S3c w0rd",
    "S3c?ret#x",
]
TAILS = [
    "",
    f"/video?token={TOKEN}",
    f"?password={TOKEN}",
    f"/{TOKEN}/main",
    f"/user=x_password={TOKEN}_ch=1",
    f"#{TOKEN}",
]
HEADS = [*(f"{scheme}://" for scheme in schemes()), "RTSP://", "rtps://", "rtsp:/", "rtsp:", ""]
ADDRESSES = ["".join(parts) for parts in product(HEADS, (f"{USER}:{p}@10.0.0.7:554" for p in PASSWORDS), TAILS)]
ADDRESSES += [f"{scheme}://10.0.0.7{tail}" for scheme in ("rtsp", "http", "udp") for tail in TAILS]
ADDRESSES += [f"synthetic://?frames=3&token={TOKEN}", f"synthetic://?frames=3;token={TOKEN}", f"synthetic://?{TOKEN}"]
SECRET = re.compile("gardener|S3c|w.?rd|ret#|T0ken", re.IGNORECASE)


def leaks(texts):
    return [text for text in texts if SECRET.search(text)]


def test_the_name_of_a_source_holds_no_secret():
    assert leaks(public_uri(uri) for uri in ADDRESSES) == []


@pytest.mark.parametrize("sentence", ["OpenCV: can't open '{}' by name", "[http] {}: Server returned 401", "{}"])
def test_a_sentence_that_quotes_an_address_is_left_without_its_secrets(sentence):
    quoted = [uri for uri in ADDRESSES if " " not in uri or "://" in uri]  # else nobody can say where it begins
    assert leaks(public_text(sentence.format(uri)) for uri in quoted) == []


WORDS = st.text(st.sampled_from("abz09.-_@:/?=# \t\n\"'[("), max_size=12)
SECRETS = ["S3cret", "S3c@ret#", "S3c:ret#", "S3c\nret#", "S3cret\n", "S3cret\r\n"]


@given(WORDS, st.sampled_from(SECRETS), WORDS)
def test_a_user_and_a_password_before_a_host_are_left_out_of_every_text(before, password, after):
    for head in ("", "rtsp://", "http://"):
        text = f"{before} {head}{USER}:{password}@cam/1 {after}"
        assert leaks([public_text(text)]) == [], text


@pytest.mark.parametrize(
    "uri", [f"{TOKEN}@cam/1", f"{TOKEN}@cam", f"{TOKEN}@10.0.0.7:554/main", f"replay://{TOKEN}@cam/1"]
)
def test_a_token_in_place_of_user_and_password_is_left_out(uri):
    assert leaks([public_uri(uri)]) == []
    assert "/" not in uri or leaks([public_text(f"{uri} does not open"), public_text(f"OpenCV: ({uri})")]) == []


@pytest.mark.parametrize("name", ["user-pw", "user-id", "proxy-pw", "password", "token", "USER-PW"])
@pytest.mark.parametrize("value", ["S3cret", '"S3c w0rd"', "'S3c w0rd'", "S3c@word", " S3cret"])
def test_a_property_of_gstreamer_that_holds_a_secret_is_left_out(name, value):
    pipeline = f"rtspsrc location=rtsp://10.0.0.7/1 {name}={value} latency=0"
    texts = [public_text(pipeline), public_text(f"no element: {pipeline}"), public_uri(pipeline)]
    assert [text for text in texts if re.search("S3c|w0rd|@word", text)] == []
    assert public_text(pipeline).endswith(" latency=0")


@pytest.mark.parametrize(
    "part", ["a", "a:", "?a", "a?b", "@", "a:/b@", "a@", "a\n", "a\n@", "rtsp://", "user=", 'user="', "/:", "a.+-"]
)
def test_the_time_of_a_long_text_is_linear(part):
    """A quadratic pattern would take minutes for one of these, a cubic one, as there was, days."""
    assert public_text(part * 100_000)
    assert public_uri(part * 100_000)


def test_what_is_no_secret_stays():
    whole = [
        "0",
        "/dev/video0",
        "csi://0",
        "road.mp4",
        "a b/cam@home.mp4",
        "cam@home.mp4",
        "replay://drive/recording",
        "rtsp://10.0.0.7",
    ]
    whole += ["synthetic://?" + "&".join(f"{key}={value}" for key, value in DEFAULTS.items())]
    assert [public_uri(uri) for uri in whole] == whole
    assert public_uri(f"rtsp://{USER}:S3cret@cam.local:554/live?x=1") == "rtsp://cam.local:554/..."
    assert public_uri("http://[fe80::1]:80/a") == "http://[fe80::1]:80/..."
    for text in (GRAMMAR, "frame 3: 4 of 5 zones (at 0.5): see a@b", "rtsp://10.0.0.7/...: gone", "***: gone"):
        assert public_text(text) == text


@pytest.mark.parametrize("head", ["synthetic://", "replay://", "csi://", "rtps://", "rtsp:", "", "/dev/video"])
@pytest.mark.parametrize("name", ["--source", "--sauce", ""])
def test_a_command_that_is_wrong_does_not_repeat_the_secret(tmp_path, head, name, capfd):
    make_bundle(tmp_path / "b")
    uri = f"{head}{USER}:S3cret@10.0.0.7/{TOKEN}?token={TOKEN}"
    assert run_command(lambda: main([str(tmp_path / "b"), *([name] if name else []), uri])) == 2
    assert leaks(capfd.readouterr()) == []


def test_a_fault_of_ours_does_not_print_the_secret_with_its_traceback(capfd):
    def fault():
        raise ValueError(f"rtsp://{USER}:S3cret@10.0.0.7/{TOKEN}")

    assert run_command(fault) == 1
    out = "".join(capfd.readouterr())
    assert "ValueError" in out
    assert out.count(TOKEN) == out.count("{TOKEN}")  # the line of the source, not its value
    assert "gardener" not in out


def test_what_opencv_raises_about_an_address_is_public_wherever_the_runner_says_it(tmp_path, capfd):
    error = cv2.error(f"VideoCapture('rtsp://{USER}:S3cret@word@10.0.0.7/{TOKEN}'): 401 for {USER}:S3cret@10.0.0.7")
    done = drive(tmp_path, [*good(2), raising(error), *good(2, 10), raising(InputError(str(error)))])
    assert done.states[:2] == ["OK", "LOST"]
    assert (
        leaks([str(done.error), str(done.summary), str([d.as_json() for d in done.decisions]), *capfd.readouterr()])
        == []
    )


def test_a_stream_that_does_not_open_names_its_host_alone(patient_streams):
    uri = f"rtsp://{USER}:S3cret%40word@127.0.0.1:9/{TOKEN}?token={TOKEN}"
    source = LiveSource(lambda: CaptureReader(uri, public_uri(uri), cv2.CAP_FFMPEG))
    try:
        with pytest.raises(SourceLost, match=r"rtsp://127\.0\.0\.1:9/\.\.\. does not open: .*refused") as caught:
            source.read(2 * LONGEST_S)
    finally:
        source.close()
    assert leaks([str(caught.value)]) == []


class Guarded(Camera):
    """A camera that stops after a dozen pictures."""

    pictures = 12


@pytest.fixture
def address():
    with serving(Guarded) as port:
        yield f"http://{USER}:S3cret%40word@127.0.0.1:{port}/{TOKEN}?token={TOKEN}"


def get(port, path):
    connection = HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    return f"{answer.getheaders()} {answer.read().decode(errors='replace')}"


def test_no_byte_that_a_drive_leaves_holds_a_secret(tmp_path, address):
    """The whole program on a camera that is lost and found: log, files, recording, page, metrics, systemd."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    command = [sys.executable, "-m", "tests.inference.patient_run", str(make_bundle(tmp_path / "b").path)]
    command += ["--source", address]
    command += ["--out", str(tmp_path / "out"), "--record", str(tmp_path / "recording"), "--web", "0", "--frames", "20"]
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        log = ""
        while (port := re.search(r"the page is at \S+:(\d+)", log)) is None:
            line = process.stderr.readline()
            assert line, f"the command ended: {log}"
            log += line
        pages = [get(int(port[1]), path) for path in ("/", "/state.json", "/metrics")]
        out, rest = process.communicate(timeout=2 * LONGEST_S)
    finally:
        process.kill()
    files = {str(f): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file() and tmp_path / "b" not in f.parents}
    manager.setblocking(False)
    words = []
    while True:
        try:
            words.append(manager.recv(4096).decode())
        except BlockingIOError:
            break
    manager.close()
    log += rest
    assert process.returncode == 0, log
    assert "-> LOST: http://127.0.0.1:" in log
    names = {re.sub(r"^overlay-\d+", "overlay", Path(name).name) for name in files}  # numbered after a restart
    assert {"decisions.jsonl", "summary.json", "overlay.mp4", "recording.json"} <= names
    assert any("STATUS=" in word for word in words)  # the kernel keeps the first ten
    everything = [out, log, *pages, *words, *(body.decode(errors="replace") for body in files.values())]
    assert [text for text in everything if re.search(f"{USER}|S3cret|[@0]word|{TOKEN}", text)] == []
