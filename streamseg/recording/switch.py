"""Starts and ends recordings during a live run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from streamseg.core.errors import StreamsegError
from streamseg.core.types import Frame, Result, Say
from streamseg.core.view import Command, RunObserver, View

START_S = 1.0
"""Longest wait on closing for a recording that is starting on a disk that does not respond."""


class _Recorder(RunObserver, Protocol):
    def status(self) -> str: ...
    def end(self) -> None: ...


class RecorderToggle:
    """Starts and ends a recorder on the user's command, and passes the run's events to it.

    Implements :class:`streamseg.core.view.RunObserver`. Call ``start``, ``command`` and ``close`` from the
    display's thread, everything else from any.
    """

    def __init__(self, make: Callable[[], _Recorder], *, say: Say) -> None:
        """``make`` starts a recording; ``say`` gets one line if that fails during a run."""
        self._make, self._say = make, say
        self._recorder: _Recorder | None = None
        self._ended: list[_Recorder] = []
        self._starting: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start a recording before the run. Raises SinkError or UsageError."""
        self._recorder = self._make()

    def command(self, command: Command) -> None:
        """Start a recording, or end the current one, on RECORD.

        Never raises and never waits for a disk: an outline on the display must leave in time.
        """
        if command is not Command.RECORD:
            return
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.end()
            self._ended.append(recorder)
        elif self._starting is None or not self._starting.is_alive():
            self._starting = threading.Thread(
                target=self._start_recorder, name="streamseg-record-begin", daemon=True
            )
            self._starting.start()

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
        """Status of the recording for the display; None without one."""
        recorder = self._recorder
        return None if recorder is None else recorder.status()

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
