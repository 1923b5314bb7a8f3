"""A bounded queue between threads that delivers items in sequence order; either side can close it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

DEPTH = 2
"""Items that wait between two stages: one being handed over, one in reserve for a slow neighbour."""
WAIT_S = 0.2
"""The longest wait before a check whether the queue was closed."""

Item = TypeVar("Item")


class OrderedQueue(Generic[Item]):
    """Delivers the items at the positions 0, 1, 2, ... in this order, which any number of writers put.

    At most ``depth`` items wait. A writer ahead of another puts its item and goes on, as far as the depth
    allows. Every writer finishes once; what was put is still delivered. A reader may abort: what was put is
    dropped.
    """

    def __init__(self, writers: int = 1, depth: int = DEPTH) -> None:
        self._items: dict[int, Item] = {}
        self._changed = threading.Condition()
        self._writers, self._depth = writers, depth
        self._next = 0
        self._limit: int | None = None
        self._aborted = False

    def put(self, item: Item, position: int) -> bool:
        """Wait until the position is less than ``depth`` ahead, then add the item; False if it is no longer
        wanted."""
        with self._changed:
            while not self._refused(position) and position >= self._next + self._depth:
                self._changed.wait(WAIT_S)
            if self._refused(position):
                return False
            self._items[position] = item
            if position == self._next:
                self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """Wait for the next item; None when there will be no more."""
        with self._changed:
            while self._next not in self._items and self._writers and not self._refused(self._next):
                self._changed.wait(WAIT_S)
            if self._refused(self._next) or self._next not in self._items:
                return None
            item = self._items.pop(self._next)
            self._next += 1
            self._changed.notify_all()
            return item

    def finish(self, position: int | None = None) -> None:
        """A writer has ended. With a position, neither that item nor any after it will be delivered."""
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
