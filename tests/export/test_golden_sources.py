"""The frames that add-detector reads from a video, a folder or a stream."""

import numpy as np
import pytest

from core.errors import InputError
from core.geometry.frame import Frame
from export.commands import add_detector
from inference.capture.base import Source, SourceLost

STREAM = "rtsp://user:secret@camera/1"


class LostAfter(Source):
    """A source that is lost after some frames."""

    def __init__(self, frames: int) -> None:
        self._left = frames

    def read(self, timeout_s):
        if not self._left:
            raise SourceLost(f"{STREAM} gives no more frames")
        self._left -= 1
        return Frame(self._left, 0, np.zeros((64, 96, 3), np.uint8))


def test_a_stream_that_is_lost_gives_the_frames_before_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(add_detector, "open_source", lambda uri: LostAfter(2))
    assert len(add_detector._frames_of(STREAM)) == 2
    assert "rtsp://camera/... ended after 2 frames (rtsp://camera/... gives no more frames)" in caplog.text


def test_a_stream_that_gives_no_frame_is_one_sentence_without_its_password(monkeypatch):
    monkeypatch.setattr(add_detector, "open_source", lambda uri: LostAfter(0))
    with pytest.raises(
        InputError, match=r"^--frames rtsp://camera/\.\.\. gives no frame \(rtsp://camera/\.\.\. gives no"
    ):
        add_detector._frames_of(STREAM)
