"""Work behind the live loop: a thread that writes, and a bounded queue that nobody ever waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]

MAX_JOBS = 20_000
"""Lines that wait at most: some minutes of a disk that does not answer."""
HURRY_S = 0.7
"""After closing, for so long pictures are still encoded; after that only lines are written."""
CLOSE_S = 5.0
"""How long closing waits for a disk that does not answer."""
WAIT_S = 0.5


class Worker:
    """Runs jobs in order in a thread of its own; the first one that raises ends it.

    ``put`` never waits. ``finish`` is called in the same thread at the end, with the error or None.
    """

    def __init__(self, name: str, finish: Callable[[Exception | None], None]) -> None:
        self._finish = finish
        self._jobs: deque[tuple[Job, int]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._closed_ns: int | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"streamseg-{name}", daemon=True)
        self._thread.start()

    def put(self, job: Job, *, held: int = 0, max_held: int = 0) -> bool:
        """Queue a job that holds so many bytes of pictures.

        False where all waiting jobs would then hold more than ``max_held`` bytes, or too many wait, or the
        worker has ended; the job is then not done. One job may always wait, whatever it holds.
        """
        with self._changed:
            if self._ended or self._closing or len(self._jobs) >= MAX_JOBS:
                return False
            if held and self._waiting_bytes and self._waiting_bytes + held > max_held:
                return False
            self._waiting_bytes += held
            self._jobs.append((job, held))
            self._changed.notify()
            return True

    @property
    def hurried(self) -> bool:
        """Whether it was closed so long ago that only what is quick should still be done."""
        closed_ns = self._closed_ns
        return closed_ns is not None and time.monotonic_ns() - closed_ns > HURRY_S * 1e9

    def end(self) -> None:
        """Take no more jobs; do what is queued, then finish. Returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self) -> bool:
        """End, and wait for it. False where the work hangs; it is then left behind."""
        self._closed_ns = self._closed_ns or time.monotonic_ns()
        self.end()
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            while (job := self._next()) is not None:
                job()
        except Exception as error:  # a disk that is full must not end the guidance
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
            job, held = self._jobs.popleft()
            self._waiting_bytes -= held
            return job
