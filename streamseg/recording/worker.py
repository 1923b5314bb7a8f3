"""A background writer thread with a bounded queue; producers never block."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

Job = Callable[[], None]

MAX_JOBS = 20_000
"""Maximum number of queued jobs (lines): some minutes of a disk that does not respond."""
HURRY_S = 0.7
"""Time after closing in which frames are still encoded; later only lines are written."""
CLOSE_S = 5.0
"""Longest wait on closing for a disk that does not respond."""
WAIT_S = 0.5


class Worker:
    """Runs jobs in order in its own thread; the first one that raises ends it.

    ``put`` never waits. ``finish`` is called at the end in the same thread, with the error or None.
    """

    def __init__(self, name: str, finish: Callable[[Exception | None], None]) -> None:
        self._finish = finish
        self._jobs: deque[tuple[Job, str, int]] = deque()
        self._held: Counter[str] = Counter()
        """Bytes that queued jobs hold, by their kind."""
        self._changed = threading.Condition()
        self._closing = False
        self._closed_ns: int | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"streamseg-{name}", daemon=True)
        self._thread.start()

    def has_room(self, kind: str, held: int, max_held: int) -> bool:
        """Whether :meth:`put` would queue such a job now."""
        with self._changed:
            return self._has_room(kind, held, max_held)

    def _has_room(self, kind: str, held: int, max_held: int) -> bool:
        if self._ended or self._closing or len(self._jobs) >= MAX_JOBS:
            return False
        return not (held and self._held[kind] and self._held[kind] + held > max_held)

    def put(self, job: Job, *, kind: str = "", held: int = 0, max_held: int = 0) -> bool:
        """Queue a job of a kind that holds ``held`` bytes of image data.

        Returns False, and does not run the job, if the queued jobs of this kind would then hold more than
        ``max_held`` bytes, if too many are queued, or if the worker has ended. A single job may hold any
        number of bytes.
        """
        with self._changed:
            if not self._has_room(kind, held, max_held):
                return False
            self._held[kind] += held
            self._jobs.append((job, kind, held))
            self._changed.notify()
            return True

    @property
    def hurried(self) -> bool:
        """True once the time for slow jobs after closing is over."""
        closed_ns = self._closed_ns
        return closed_ns is not None and time.monotonic_ns() - closed_ns > HURRY_S * 1e9

    def end(self) -> None:
        """Accept no more jobs; run what is queued, then finish. Returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self) -> bool:
        """End, and wait until all is done. Returns False if the thread hangs; it is then abandoned."""
        self._closed_ns = self._closed_ns or time.monotonic_ns()
        self.end()
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            while (job := self._next()) is not None:
                job()
        except Exception as error:  # a full disk must not end the guidance
            failure = error
        with self._changed:
            self._ended = True
            self._jobs.clear()
        self._finish(failure)

    def _next(self) -> Job | None:
        """The next job; None at the end."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return None
                self._changed.wait(WAIT_S)
            job, kind, held = self._jobs.popleft()
            self._held[kind] -= held
            return job
