"""A slot for one item between two threads, in which a newer item replaces an older one."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """A writer never waits; a reader waits at most its time-out. Closing it with an error raises that in the reader."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._item: Item | None = None
        self._error: BaseException | None = None

    def put(self, item: Item) -> Item | None:
        """Store `item`; return the one it replaces, whose buffer can be used again."""
        with self._changed:
            old, self._item = self._item, item
            self._changed.notify()
        return old

    def take(self, timeout_s: float) -> Item | None:
        """Return the newest item, or None after the time-out. Raises the error it was closed with, items first."""
        with self._changed:
            # no loop around it: there is one reader, so nobody else takes the item between the wake-up and here
            if self._item is None and self._error is None:
                self._changed.wait(timeout_s)
            item, self._item = self._item, None
            # the last frame of a stream is still delivered; the next call raises
            if item is None and self._error is not None:
                raise self._error
            return item

    def close(self, error: BaseException) -> None:
        """Tell the reader that no more items will come."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
