"""Begins and ends recordings while a live run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from streamseg.core.errors import StreamsegError
from streamseg.core.types import Frame, Result, Say
from streamseg.core.view import Command, RunObserver, View

BEGIN_S = 1.0
"""How long closing waits for a recording that is being begun on a disk that does not answer."""


class _Recorder(RunObserver, Protocol):
    def status(self) -> str: ...
    def end(self) -> None: ...


class RecorderToggle:
    """A tap that hands everything on to a recording while there is one. Implements :class:`view.RunObserver`.

    ``start``, ``command`` and ``close`` belong to the display's thread; the rest is called by any.
    """

    def __init__(self, make: Callable[[], _Recorder], *, say: Say) -> None:
        """``make`` begins a recording; ``say`` gets one line when that fails during a run."""
        self._make, self._say = make, say
        self._recorder: _Recorder | None = None
        self._ended: list[_Recorder] = []
        self._beginning: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin a recording, before the run. Raises SinkError or UsageError."""
        self._recorder = self._make()

    def command(self, command: Command) -> None:
        """RECORD begins a recording, or ends the one that runs. Never raises, and never waits for a disk:
        an outline on the display has to be gone in time."""
        if command is not Command.RECORD:
            return
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.end()
            self._ended.append(recorder)
        elif self._beginning is None or not self._beginning.is_alive():
            self._beginning = threading.Thread(target=self._begin, name="streamseg-record-begin", daemon=True)
            self._beginning.start()

    def _begin(self) -> None:
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
        """What the display says about it; None without a recording."""
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
        """End the recording that runs, if any, and wait until all are finished."""
        if self._beginning is not None:
            self._beginning.join(BEGIN_S)
        with self._lock:
            self._closed = True
            recorder, self._recorder = self._recorder, None
        for each in (*self._ended, *([] if recorder is None else [recorder])):
            each.close()
