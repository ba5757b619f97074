"""Every source yields the frames there are, in order, and says in one sentence why it cannot."""

from __future__ import annotations

import re
import time
from threading import Event

import cv2
import numpy as np
import pytest

from core.errors import InputError
from core.geometry.frame import Frame
from core.geometry.preprocess import decode, fill, whole
from inference.backends import open_backend
from inference.capture.base import EndOfStream, SourceLost
from inference.capture.live import LiveSource, Reader, play_in_real_time
from inference.capture.reader import CaptureReader
from inference.capture.v4l2 import VideoNode
from inference.frame.classifier import RegionClassifier
from inference.runner.supervisor import is_camera
from inference.sources import camera, kind_of, open_source
from inference.sources.synthetic import ZONES
from tests.bundles import make_bundle
from tests.inference.sources.videos import noise, write_images, write_video
from tests.waiting import LONGEST_S


def read_all(source):
    frames = []
    try:
        while True:
            if (frame := source.read(1.0)) is not None:
                frames.append(frame)
    except EndOfStream:
        return frames
    finally:
        source.close()


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("0", "camera"),
        ("/dev/video3", "camera"),
        ("/dev/v4l/by-id/usb-046d_C920-video-index0", "camera"),
        ("/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0", "camera"),
        ("rtsp://u:p@10.0.0.2/stream", "stream"),
        ("RTSP://10.0.0.2/stream", "stream"),
        ("rtsps://10.0.0.2/stream", "stream"),
        ("rtmp://10.0.0.2/live", "stream"),
        ("udp://@:5000", "stream"),
        ("srt://10.0.0.2:5000", "stream"),
        ("http://10.0.0.2/video", "stream"),
        ("https://10.0.0.2/video", "stream"),
        ("csi://0", "csi"),
        ("replay://drive", "replay"),
        ("synthetic://?fps=5", "synthetic"),
        ("SYNTHETIC://", "synthetic"),
        ("some.mp4", "video"),
        ("tests", "folder"),
    ],
)
def test_the_form_of_the_uri_decides_the_source(uri, kind):
    assert kind_of(uri) == kind
    assert is_camera(uri) == (kind in ("camera", "csi", "stream"))  # the supervisor may not import a source to know


def test_an_unknown_scheme_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean synthetic://"):
        open_source("synthetik://")


@pytest.mark.parametrize("scheme", ["vidio", "camra", "foldr", "strem", "file", "rtps", "htp", "rtspt", "upd", "x"])
def test_no_scheme_is_suggested_that_does_not_exist(scheme):
    with pytest.raises(InputError, match=f"there is no source {scheme}://") as error:
        open_source(f"{scheme}://x")
    named = re.findall(r"did you mean (\w+)://", str(error.value))
    assert not named or kind_of(f"{named[0]}://x")


@pytest.mark.parametrize("uri", ["rtsp://", "http:///video", "RTSP://"])
def test_a_stream_without_a_host_is_refused(uri):
    with pytest.raises(InputError, match="names no host: give"):
        open_source(uri)


def test_a_video_gives_every_frame_once_in_its_own_time(tmp_path):
    source = open_source(str(write_video(tmp_path / "v.mp4", frames=12, fps=25.0)))
    assert (source.live, source.fps) == (False, 25.0)
    frames = read_all(source)
    assert [f.frame_id for f in frames] == list(range(12))
    assert [f.media_ns for f in frames] == [40_000_000 * i for i in range(12)]


def test_a_folder_gives_its_images_in_name_order_with_the_folder_as_truth(tmp_path):
    frames = read_all(open_source(str(write_images(tmp_path / "images"))))
    assert [f.name for f in frames] == ["car/0.png", "car/1.png", "car/2.png"]
    assert all(np.array_equal(f.image_bgr, noise(i, 50 + i, 70)) for i, f in enumerate(frames))
    assert all(f.ground_truth == {"frame": "car"} for f in frames)


def test_a_broken_image_is_skipped_and_leaves_a_gap(tmp_path):
    folder = write_images(tmp_path / "images")
    (folder / "car" / "1.png").write_bytes(b"\x89PNG not a picture")
    source = open_source(str(folder))
    assert [f.frame_id for f in read_all(source)] == [0, 2]
    assert source.skipped == {"car/1.png": "unreadable: not an image, or not a whole one"}


def test_a_folder_of_broken_images_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match="none of 1 images"):
        read_all(open_source(str(tmp_path)))


def test_the_synthetic_camera_gives_the_same_frames_again_with_the_truth_of_its_zones():
    uri = "synthetic://?scenario=day&fps=10&seed=7&frames=3&width=160&height=90"
    first, second = read_all(open_source(uri)), read_all(open_source(uri))
    assert len(first) == 3
    assert all(np.array_equal(a.image_bgr, b.image_bgr) for a, b in zip(first, second, strict=True))
    assert set(first[0].ground_truth) == set(ZONES)
    assert [f.media_ns for f in first] == [0, 100_000_000, 200_000_000]


@pytest.mark.parametrize(
    "uri",
    [
        *("synthetic://?fsp=3", "synthetic://?fps=fast", "synthetic://?scenario=snow", "synthetic://?frames=1.5"),
        *("synthetic://?frames=-1", "synthetic://?frames=3&frames=4", "synthetic://frames=3", "synthetic://x?frames=3"),
    ],
)
def test_a_bad_parameter_is_named(uri):
    with pytest.raises(InputError, match=r"fsp|fast|snow|'1.5', give a whole number|-1|each parameter once"):
        open_source(uri)


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "empty.mp4"])
def test_a_video_that_is_not_one_is_one_sentence(tmp_path, name):
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=name) as error:
        open_source(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_an_empty_source_is_not_the_folder_where_one_stands():
    with pytest.raises(InputError, match="the source is empty"):
        open_source("")


def test_a_camera_that_is_not_there_is_one_sentence():
    with pytest.raises(InputError, match="/dev/video98 is not there"):
        open_source("98")


def test_a_link_to_a_camera_that_is_unplugged_is_a_camera_that_is_not_there(tmp_path):
    link = tmp_path / "rear"
    link.symlink_to("/dev/video98")
    with pytest.raises(InputError, match="rear is not there"):
        open_source(str(link))


def test_a_device_that_is_no_camera_is_one_sentence():
    with pytest.raises(InputError, match="/dev/null does not answer as a camera"):
        open_source("/dev/null")


def test_a_link_is_followed_anew_each_time_the_camera_is_opened(tmp_path, monkeypatch):
    """After a replug the camera has another number, and /dev/v4l/by-id points to it."""
    opened = []

    class Capture(Stamped):
        def __init__(self, target, api, options):
            super().__init__(0)
            opened.append(target)

        def isOpened(self):
            return True

        def release(self):
            pass

    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    monkeypatch.setattr(camera, "query_node", lambda device: VideoNode("Rear", "uvcvideo", ("MJPG",)))
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    source = open_source(str(link))
    assert source.read(5.0) is not None
    source.close()
    assert opened == [str(link)]


def test_a_node_without_pictures_is_refused(monkeypatch):
    monkeypatch.setattr(camera, "query_node", lambda device: VideoNode("Rear", "uvcvideo", ()))
    with pytest.raises(InputError, match="gives no pictures"):
        open_source("/dev/null")


def test_the_camera_path_feeds_the_network_what_preprocess_makes_of_the_file(tmp_path):
    """The frame of the source through the classifier equals `fill` on `decode`, byte for byte."""
    folder = write_images(tmp_path / "images", count=1)
    bundle = make_bundle(tmp_path / "bundle")
    classifier = RegionClassifier(bundle, open_backend("null", bundle, "fp32"))
    frame = open_source(str(folder)).read(1.0)
    classifier.classify(frame.image_bgr, [whole(frame.image_bgr)])
    image = decode((folder / "car" / "0.png").read_bytes())
    expected = bundle.geometry.empty(1)
    fill(expected, image, [whole(image)], bundle.geometry)
    assert classifier.backend.input_nhwc.tobytes() == expected.tobytes()


class Counting(Reader):
    """Gives `frames` numbered pictures, faster than anyone reads, then ends as told."""

    def __init__(self, frames, end):
        self._frames, self._end = frames, end

    def open(self):
        pass

    def read(self, frame_id, spare):
        if frame_id == self._frames:
            raise self._end
        image = np.full((8, 8, 3), frame_id % 256, np.uint8)
        return Frame(frame_id, time.monotonic_ns(), image, frame_id)

    def close(self):
        pass


def test_a_late_reader_gets_the_newest_frame_and_can_count_what_it_missed():
    source = LiveSource(lambda: Counting(50, EndOfStream()))
    source._thread.join()
    assert source.read(1.0).frame_id == 49
    with pytest.raises(EndOfStream):
        source.read(1.0)


def test_a_driver_that_raises_is_a_lost_camera():
    source = LiveSource(lambda: Counting(0, RuntimeError("ioctl")))
    with pytest.raises(SourceLost, match="RuntimeError: ioctl"):
        source.read(LONGEST_S)


def test_a_reader_waits_no_longer_than_it_said():
    released = Event()

    class Silent(Counting):
        def read(self, frame_id, spare):
            released.wait(LONGEST_S)
            raise EndOfStream

    source = LiveSource(lambda: Silent(1, EndOfStream()))
    assert source.read(0.01) is None
    released.set()
    source.close()


def test_a_recorded_source_in_real_time_is_live_and_stamps_its_frames_now(tmp_path):
    video = open_source(str(write_video(tmp_path / "v.mp4", frames=5, fps=50.0)))
    before_ns = time.monotonic_ns()
    source = play_in_real_time(video)
    frames = read_all(source)
    assert source.live
    assert frames[-1].frame_id == 4
    assert all(f.captured_ns >= before_ns and f.media_ns == f.captured_ns for f in frames)
    assert all(f.captured_ns >= before_ns + f.frame_id * 20_000_000 for f in frames)


NOW_NS = 10**14


class Stamped:
    """Stands for cv2.VideoCapture of a V4L2 driver whose stamp is `ago_ns` before the grab, at NOW_NS."""

    def __init__(self, ago_ns):
        self._stamp_ns = NOW_NS - ago_ns

    def grab(self):
        return True

    def retrieve(self, spare):
        return True, noise(0)

    def get(self, what):
        return self._stamp_ns / 1e6 if what == cv2.CAP_PROP_POS_MSEC else 0.0


@pytest.mark.parametrize(
    ("api", "ago_ns", "believed"),
    [
        (cv2.CAP_V4L2, 40_000_000, True),
        (cv2.CAP_V4L2, 3_000_000_000, False),  # another clock, or a driver that stamps nothing
        (cv2.CAP_V4L2, -3_000_000_000, False),
        (cv2.CAP_FFMPEG, 40_000_000, False),  # there it is the place in the film
    ],
)
def test_the_drivers_time_is_believed_where_it_can_be_true(api, ago_ns, believed, monkeypatch):
    monkeypatch.setattr("inference.capture.reader.monotonic_ns", lambda: NOW_NS)
    reader = CaptureReader(0, "cam", api)
    reader._capture = capture = Stamped(ago_ns)
    frame = reader.read(0, None)
    captured_ns = frame.captured_ns
    assert captured_ns <= NOW_NS
    assert (captured_ns < NOW_NS) == believed
    assert frame.age_basis == ("capture" if believed else "arrival")
    if believed:
        assert abs(captured_ns - capture._stamp_ns) < 2_000  # a double of milliseconds holds it to less
