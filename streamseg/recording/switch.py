"""Starts and ends recordings during a live run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from streamseg.core.errors import StreamsegError
from streamseg.core.types import Frame, Result, Say
from streamseg.core.view import Command, RunObserver, View, recorded_time

START_S = 1.0
"""Longest wait on closing for a recording that is starting on a disk that does not respond."""
MAX_STARTS = 3
"""Limit on recordings started within ``STARTS_S``: a page made twenty folders a second."""
STARTS_S = 30.0
REFUSAL_S = 5.0
"""Time for which the display says why no recording was started."""


class _Recorder(RunObserver, Protocol):
    def status(self) -> str: ...
    def end(self) -> None: ...


class RecorderToggle:
    """Starts and ends a recorder on the user's command, and passes the run's events to it.

    Implements :class:`streamseg.core.view.RunObserver`. Call ``start``, ``command`` and ``close`` from the
    display's thread, everything else from any.
    """

    def __init__(
        self, make: Callable[[], _Recorder], *, say: Say, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``make`` starts a recording; ``say`` gets one line if that fails during a run."""
        self._make, self._say, self._clock = make, say, clock
        self._starts: deque[float] = deque(maxlen=MAX_STARTS)
        self._refused: tuple[str, float] | None = None
        """Why the last recording was not started, and until when to say so."""
        self._recorder: _Recorder | None = None
        self._ended: list[_Recorder] = []
        self._starting: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start a recording before the run. Raises SinkError or UsageError."""
        self._recorder = self._make()

    def command(self, command: Command) -> None:
        """Start a recording, or end the current one; at most ``MAX_STARTS`` are started in ``STARTS_S``.

        A recording that stopped with an error counts as none: the next command starts another.
        Never raises and never waits for a disk: an outline on the display must leave in time.
        """
        running = self._recorder is not None and recorded_time(self._recorder.status()) is not None
        starting = self._starting is not None and self._starting.is_alive()
        if command in (Command.RECORD, Command.STOP_RECORDING) and running:
            self._end_recorder()
        elif command in (Command.RECORD, Command.START_RECORDING) and not running and not starting:
            if (wait_s := self._wait_s()) > 0:
                self._refuse(f"{MAX_STARTS} were started in {STARTS_S:g} s; next one in {wait_s:.0f} s")
                return
            self._end_recorder()
            self._starts.append(self._clock())
            self._starting = threading.Thread(
                target=self._start_recorder, name="streamseg-record-begin", daemon=True
            )
            self._starting.start()

    def _end_recorder(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.end()
            self._ended.append(recorder)

    def _wait_s(self) -> float:
        """Seconds until another recording may be started."""
        if len(self._starts) < MAX_STARTS:
            return 0.0
        return self._starts[0] + STARTS_S - self._clock()

    def _refuse(self, reason: str) -> None:
        """Say once for a burst of commands why no recording is started."""
        now = self._clock()
        if self._refused is None or now >= self._refused[1]:
            self._say(f"cannot record: {reason}")
            self._refused = f"no recording: {reason}", now + REFUSAL_S

    def _start_recorder(self) -> None:
        try:
            recorder = self._make()
        except (StreamsegError, OSError) as error:
            self._say(f"cannot record: {error}")
            return
        with self._lock:
            if not self._closed:
                self._recorder = recorder
                return
        recorder.close()

    def status(self) -> str | None:
        """Status of the recording for the display, or why none was started; None without either."""
        if (recorder := self._recorder) is not None:
            return recorder.status()
        if (refused := self._refused) is not None and self._clock() < refused[1]:
            return refused[0]
        return None

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        if (recorder := self._recorder) is not None:
            recorder.on_frame(frame, arrived_ns)

    def on_result(self, result: Result) -> None:
        if (recorder := self._recorder) is not None:
            recorder.on_result(result)

    def on_view(self, view: View, shown_ns: int) -> None:
        if (recorder := self._recorder) is not None:
            recorder.on_view(view, shown_ns)

    def close(self) -> None:
        """End the current recording, if any, and wait until all are finished."""
        if self._starting is not None:
            self._starting.join(START_S)
        with self._lock:
            self._closed = True
            recorder, self._recorder = self._recorder, None
        for each in (*self._ended, *([] if recorder is None else [recorder])):
            each.close()
