"""Reads a camera in a thread of its own, as fast as it delivers, so that the runner gets the newest frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from threading import Event, Thread
from time import monotonic_ns, sleep

from core.errors import InputError
from core.geometry.frame import Bytes, Frame, Relative
from inference.capture.base import EndOfStream, Source, SourceLost, SourceRefused
from inference.capture.mailbox import Mailbox

LONGEST_PAUSE_NS = 1_000_000_000
"""A pause in a recording is played no longer than this, or the runner would take it for a camera that hangs."""


class Reader(ABC):
    """The interface of a camera's driver. Every method is called from the capture thread alone, `open` first."""

    fps: float = 30.0

    @abstractmethod
    def open(self) -> None:
        """Connect. Raises SourceLost with the reason when that fails."""

    @abstractmethod
    def read(self, frame_id: int, spare: Bytes | None) -> Frame:
        """Wait for the next picture and return it, in `spare` where it fits. Raises SourceLost or EndOfStream.

        frame_id: the number of the next frame; a reader that loses frames adds their count.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""


class LiveSource(Source):
    """Gives the newest frame of a reader, which a thread of its own reads as fast as it delivers.

    The thread keeps the driver's queue empty, since not every driver obeys CAP_PROP_BUFFERSIZE.
    Three buffers are in use: one is being filled, one lies in the mailbox, one is being processed. A thread that hangs
    inside its driver cannot be stopped: `close` leaves it behind as a daemon, which closes the camera when it wakes.
    """

    live = True

    def __init__(
        self,
        make_reader: Callable[[], Reader],
        *,
        fps: float = 30.0,
        synthetic: bool = False,
        sequence: bool = True,
        zones: Mapping[str, Relative] | None = None,
    ) -> None:
        self.fps = fps
        self.synthetic = synthetic
        self.sequence = sequence
        self.zones = zones
        self._make_reader = make_reader
        self._next_id = 0
        self._start()

    def _start(self) -> None:
        # a thread that was left behind in its driver keeps its own mailbox and buffers, so these are new ones
        self._mailbox: Mailbox[Frame] = Mailbox()
        self._spare: deque[Bytes] = deque(maxlen=3)
        self._held: Bytes | None = None
        self._stop = Event()
        arguments = (self._make_reader, self._mailbox, self._spare, self._stop, self._next_id)
        self._thread = Thread(target=self._capture, args=arguments, name="capture", daemon=True)
        self._thread.start()

    def reopen(self) -> None:
        """Connect again, in a new thread; ids go on from the last frame that was read."""
        self.close()
        self._start()

    def read(self, timeout_s: float) -> Frame | None:
        """Return the newest frame not yet seen, or None after the time-out. Raises SourceLost or EndOfStream.

        Raises InputError where the camera refused us before its first frame.
        """
        try:
            frame = self._mailbox.take(timeout_s)
        except SourceRefused as error:
            if self._next_id:  # it allowed access before, and may do so again
                raise
            raise InputError(str(error)) from None
        # the frame before is processed by now, so its buffer is free for the capture thread
        if frame is not None:
            if self._held is not None:
                self._spare.append(self._held)
            self._held = frame.image_bgr  # the runner has it until its next read
            self._next_id = frame.frame_id + 1
        return frame

    def close(self) -> None:
        """Stop the thread; one that hangs in its driver is left behind."""
        self._stop.set()
        # a daemon thread that hangs in a driver must not keep the runner from ending
        self._thread.join(timeout=0.5)

    def _capture(
        self,
        make_reader: Callable[[], Reader],
        mailbox: Mailbox[Frame],
        spare: deque[Bytes],
        stop: Event,
        frame_id: int,
    ) -> None:
        """Read frames into the mailbox until `stop` is set: the body of the thread."""
        error: Exception = SourceLost("closed")
        reader: Reader | None = None
        try:
            reader = make_reader()
            reader.open()
            self.fps = reader.fps
            while not stop.is_set():
                frame = reader.read(frame_id, spare.popleft() if spare else None)
                frame_id = frame.frame_id + 1
                if (old := mailbox.put(frame)) is not None:
                    spare.append(old.image_bgr)
        except (SourceLost, EndOfStream) as caught:
            error = caught
        except Exception as caught:  # a driver's binding may raise anything, and the runner must learn of it
            error = SourceLost(f"{type(caught).__name__}: {caught}")
        finally:
            if reader is not None:
                reader.close()
            mailbox.close(error)


class PacedReader(Reader):
    """Plays a recorded source at its own rate, as a camera would deliver it: `--realtime`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.fps = source.fps
        self._started_ns: int | None = None

    def open(self) -> None:
        """Do nothing: the clock starts with the first frame, whose time need not be 0."""

    def read(self, frame_id: int, spare: Bytes | None) -> Frame:
        """Wait for the frame's time, then return it: copied, since the source fills its buffer again."""
        frame = self._source.read(1.0)
        if frame is None:
            raise SourceLost("the recorded source gave no frame")
        # the gap before the first frame is known from the recording alone; later ones show in the ids
        drops = frame.drops if self._started_ns is None else None
        if self._started_ns is None:
            self._started_ns = monotonic_ns() - frame.media_ns
        early_ns = self._started_ns + frame.media_ns - monotonic_ns()
        # the clock jumps over the rest of a long pause
        if early_ns > LONGEST_PAUSE_NS:
            self._started_ns -= early_ns - LONGEST_PAUSE_NS
            early_ns = LONGEST_PAUSE_NS
        if early_ns > 0:
            sleep(early_ns / 1e9)
        image = frame.image_bgr
        if spare is not None and spare.shape == image.shape:
            spare[:] = image
            image = spare
        else:
            image = image.copy()
        now = monotonic_ns()
        return Frame(frame.frame_id, now, image, now, frame.ground_truth, frame.name, drops, frame.age_basis)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def play_in_real_time(source: Source) -> Source:
    """Return `source` at its own rate, with drops where the runner is slower; a live source as it is."""
    if source.live:
        return source
    live = LiveSource(
        lambda: PacedReader(source),
        fps=source.fps,
        synthetic=source.synthetic,
        sequence=source.sequence,
        zones=source.zones,
    )
    live.upright, live.recorded = source.upright, source.recorded
    return live
