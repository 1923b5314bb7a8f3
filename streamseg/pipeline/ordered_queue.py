"""A short queue between threads that keeps turns, and in which either side can end the transfer."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

DEPTH = 2
"""Items that wait between two stages: one being handed over, one in reserve for a slow neighbour."""
WAIT_S = 0.2
"""No wait is longer without looking whether the transfer has ended."""

Item = TypeVar("Item")


class OrderedQueue(Generic[Item]):
    """A queue of at most DEPTH items, put in the order of their turns 0, 1, 2, ..., by any number of writers.

    Every writer ends once; what was put is still delivered. The readers may cut: what was put is dropped.
    """

    def __init__(self, writers: int = 1) -> None:
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._writers = writers
        self._turn = 0
        self._limit: int | None = None
        self._cut = False

    def put(self, item: Item, turn: int) -> bool:
        """Wait for the item's turn and for room, and add it; False when it is no longer wanted."""
        with self._changed:
            while not self._refused(turn) and (turn != self._turn or len(self._items) >= DEPTH):
                self._changed.wait(WAIT_S)
            if self._refused(turn):
                return False
            self._items.append(item)
            self._turn += 1
            self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """Wait for an item; None when there will be no more."""
        with self._changed:
            while not self._items and self._writers and not self._refused(self._turn):
                self._changed.wait(WAIT_S)
            if self._cut or not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def end(self, turn: int | None = None) -> None:
        """A writer has ended. With a turn, neither that item nor any after it will be put."""
        with self._changed:
            self._writers -= 1
            if turn is not None:
                self._limit = turn if self._limit is None else min(turn, self._limit)
            self._changed.notify_all()

    def cut(self) -> None:
        """Drop what was put, and take nothing more."""
        with self._changed:
            self._cut = True
            self._items.clear()
            self._changed.notify_all()

    @property
    def is_cut(self) -> bool:
        return self._cut

    def _refused(self, turn: int) -> bool:
        return self._cut or (self._limit is not None and turn >= self._limit)
