"""A bounded queue between threads that delivers items in sequence order; either side can close it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

DEPTH = 2
"""Items that wait between two stages: one being handed over, one in reserve for a slow neighbour."""
WAIT_S = 0.2
"""The longest wait before a check whether the queue was closed."""

Item = TypeVar("Item")


class OrderedQueue(Generic[Item]):
    """Holds at most DEPTH items, which any number of writers put at the positions 0, 1, 2, ... in this order.

    Every writer finishes once; what was put is still delivered. A reader may abort: what was put is dropped.
    """

    def __init__(self, writers: int = 1) -> None:
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._writers = writers
        self._position = 0
        self._limit: int | None = None
        self._aborted = False

    def put(self, item: Item, position: int) -> bool:
        """Wait for the item's position and for room, then add it; False if it is no longer wanted."""
        with self._changed:
            while not self._refused(position) and (position != self._position or len(self._items) >= DEPTH):
                self._changed.wait(WAIT_S)
            if self._refused(position):
                return False
            self._items.append(item)
            self._position += 1
            self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """Wait for an item; None when there will be no more."""
        with self._changed:
            while not self._items and self._writers and not self._refused(self._position):
                self._changed.wait(WAIT_S)
            if self._aborted or not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def finish(self, position: int | None = None) -> None:
        """A writer has ended. With a position, neither that item nor any after it will be put."""
        with self._changed:
            self._writers -= 1
            if position is not None:
                self._limit = position if self._limit is None else min(position, self._limit)
            self._changed.notify_all()

    def abort(self) -> None:
        """Drop what was put, and accept nothing more."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()

    @property
    def is_aborted(self) -> bool:
        return self._aborted

    def _refused(self, position: int) -> bool:
        return self._aborted or (self._limit is not None and position >= self._limit)
