"""Begins and ends recordings while a live run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamseg.errors import StreamsegError
from streamseg.types import Frame, Result
from streamseg.view import Command, Tap, View


class _Recording(Tap, Protocol):
    def status(self) -> str: ...


class RecordSwitch:
    """A tap that hands everything on to a recording while there is one. Implements :class:`view.Tap`.

    ``start``, ``command`` and ``close`` belong to the display's thread; the rest is called by any.
    """

    def __init__(self, make: Callable[[], _Recording], *, say: Callable[[str], None]) -> None:
        """``make`` begins a recording; ``say`` gets one line when that fails during a run."""
        self._make, self._say = make, say
        self._recording: _Recording | None = None

    def start(self) -> None:
        """Begin a recording. Raises SinkError or UsageError."""
        self._recording = self._make()

    def command(self, command: Command) -> None:
        """RECORD begins a recording, or ends the one that runs. Never raises: guidance goes on."""
        if command is not Command.RECORD:
            return
        if self._recording is not None:
            self.close()
            return
        try:
            self.start()
        except StreamsegError as error:
            self._say(f"cannot record: {error}")

    def status(self) -> str | None:
        """What the display says about it; None without a recording."""
        recording = self._recording
        return None if recording is None else recording.status()

    def offered(self, frame: Frame, arrived_ns: int) -> None:
        if (recording := self._recording) is not None:
            recording.offered(frame, arrived_ns)

    def segmented(self, result: Result) -> None:
        if (recording := self._recording) is not None:
            recording.segmented(result)

    def displayed(self, view: View, shown_ns: int) -> None:
        if (recording := self._recording) is not None:
            recording.displayed(view, shown_ns)

    def close(self) -> None:
        """End the recording that runs, if any."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.close()
