"""Keeps a measurement from hanging: work in a thread of its own, given up when it takes too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from streamseg.core.errors import StallError

T = TypeVar("T")
LEAVE_S = 10.0
"""Leaving the ``with`` block waits so long for a call that goes on, when Ctrl-C came in between: libraries
that still compute while the program ends abort it."""


class Watch:
    """Runs calls one after another in one thread, for libraries whose workers belong to the calling thread.

    A call that takes longer than ``limit_s`` is left behind with its thread, which nothing can end; the next
    call gets a new one. None sets no limit. Close it, or leave the ``with`` block.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises. Raises StallError where it takes too long."""
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put((call(), None))
            except BaseException as error:
                answers.put((None, error))

        if self._calls is None:
            self._calls = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=_serve, args=(self._calls,), name="streamseg-bench", daemon=True
            )
            self._thread.start()
        self._calls.put(work)
        try:
            answer, error = answers.get(timeout=self.limit_s)
        except queue.Empty:
            self.close()
            raise StallError(f"no answer within {self.limit_s:g} s; it was left out") from None
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]

    def close(self) -> None:
        """Let the thread end once its call is over."""
        if self._calls is not None:
            self._calls.put(None)
        self._calls = self._thread = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(LEAVE_S)


def _serve(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
