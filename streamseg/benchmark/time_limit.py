"""The time by which a benchmark is to end, however slow the machine is.

Each step is asked for only while there is time for it, by what earlier steps took; what finds none is left
out, and the rows say so. A step that goes on long after the end is interrupted as by Ctrl-C.
"""

from __future__ import annotations

import _thread
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TOO_LATE = "there was no time left for it"
"""Why something is absent."""
QUICK_S = 62.0
"""Time limit of quick runs: a step that has begun may go on for a while, and within 90 s all is written."""
GRACE_S = 12.0
"""How long a step may go on after the end: only it knows what it has found."""
ENOUGH_ROUNDS = 3
"""Rows of fewer rounds say so."""


class TimeLimit:
    """When a benchmark, or a part of it, is to end; by default never."""

    def __init__(
        self, seconds: float | None = None, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """``seconds`` from now on; None sets no limit. ``clock_ns`` is the clock of everything that is
        measured."""
        self.seconds = seconds
        self.clock_ns = clock_ns
        self.interrupted = False
        """A step went on for too long after the end and was interrupted."""
        self._until_ns = math.inf if seconds is None else clock_ns() + seconds * 1e9

    def now_s(self) -> float:
        """Its clock, seconds."""
        return self.clock_ns() / 1e9

    @property
    def left_s(self) -> float:
        """Seconds that are left: 0 if none are, infinite without a limit."""
        return max(0.0, (self._until_ns - self.clock_ns()) / 1e9)

    def fits(self, seconds: float = 0.0) -> bool:
        """Whether there is time for a step of this duration; of one of unknown duration, any time."""
        return self.left_s > max(0.0, seconds)

    def part(self, share: float) -> TimeLimit:
        """The limit of a step that may take this share, 0..1, of the time that is left."""
        left_s = self.left_s
        return TimeLimit(None if math.isinf(left_s) else left_s * share, clock_ns=self.clock_ns)

    @contextmanager
    def enforced(self, grace_s: float = GRACE_S) -> Iterator[None]:
        """Raise KeyboardInterrupt in the ``with`` block if it goes on for ``grace_s`` seconds after the end.

        Only in the main thread, which alone can be interrupted.
        """
        if math.isinf(self.left_s) or threading.current_thread() is not threading.main_thread():
            yield
            return
        ended, deciding = threading.Event(), threading.Lock()

        def watch() -> None:
            ended.wait(self.left_s + grace_s)
            with deciding:
                if not ended.is_set():
                    self.interrupted = True
                    _interrupt_main()

        thread = threading.Thread(target=watch, name="streamseg-bench-limit", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with deciding:
                ended.set()


def rounds_note(done: int, wanted: int) -> list[str]:
    """What a row says of rounds that there was no time for; nothing if there were enough."""
    if done >= min(wanted, ENOUGH_ROUNDS):
        return []
    return [f"measured in {done} of {wanted} rounds: the run was to end in time"]


def _interrupt_main() -> None:
    """As Ctrl-C does, also while the main thread waits."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # a wait does not see interrupt_main()
    else:
        _thread.interrupt_main()
