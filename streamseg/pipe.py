"""A short queue between two threads, in which either side can end the transfer."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

DEPTH = 2
"""Items that wait between two threads: one being handed over, one in reserve for a slow neighbour."""
WAIT_S = 0.2
"""No wait is longer without looking whether the transfer has ended."""

Item = TypeVar("Item")


class Pipe(Generic[Item]):
    """A queue of at most DEPTH items. The writer ends it (the rest is delivered) or the reader cuts it."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._cut = False

    def put(self, item: Item) -> bool:
        """Wait for room and add; False when the other side takes no more."""
        with self._changed:
            while len(self._items) >= DEPTH and not self._cut:
                self._changed.wait(WAIT_S)
            if not self._cut:
                self._items.append(item)
                self._changed.notify_all()
            return not self._cut

    def get(self) -> Item | None:
        """Wait for an item; None when there will be no more."""
        with self._changed:
            while not self._items and not self._ended and not self._cut:
                self._changed.wait(WAIT_S)
            if self._cut or not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def end(self) -> None:
        """Writer's side: nothing follows what was put."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cut(self) -> None:
        """Reader's side: what was put is discarded, and nothing more is taken."""
        with self._changed:
            self._cut = True
            self._items.clear()
            self._changed.notify_all()
