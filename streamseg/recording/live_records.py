"""Writes the records of a live run into one file, without video: results, and what was displayed when."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from streamseg.core.errors import SinkError
from streamseg.core.types import Frame, Result, Say
from streamseg.core.view import View
from streamseg.recording.worker import Worker
from streamseg.sinks.records import LineFile, Record, frame_record, header_line, json_line


class LiveRecords:
    """An observer that writes JSON lines: a header, ``frame`` per segmented frame, ``state`` per change.

    Lines of frames are those of a replay (``age_ms`` is from capture to result) with ``captured_ns``
    (monotonic). Lines of states have ``t`` (seconds since the header), ``at_ns`` (monotonic), ``state`` and
    ``reason``. Raises SinkError or UsageError on opening; a later error ends the file after its last whole
    line, is stored in :attr:`error` and reported through ``say``.
    """

    name = "records"

    def __init__(
        self,
        path: Path,
        *,
        header: Mapping[str, object],
        force: bool = False,
        say: Say = lambda message: None,
    ) -> None:
        self.path = path
        self.frames = 0
        """Frames written."""
        self.error: Exception | None = None
        """The error that ended the file early."""
        self._say = say
        self._began_ns = time.monotonic_ns()
        self._last_state = ""
        about = {**header, "live": True, "started_ns": self._began_ns}
        self._lines = LineFile(path, header_line(about), force=force)
        self._worker = Worker("records", self._finish)

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        """Does nothing: frames that are not segmented are not written."""

    def on_result(self, result: Result) -> None:
        """Write a line for a segmented frame."""
        self._put({**frame_record(result), "captured_ns": result.frame.captured_ns})

    def on_view(self, view: View, shown_ns: int) -> None:
        """Write a line if the state changed."""
        if view.state != self._last_state:
            self._last_state = str(view.state)
            t = (shown_ns - self._began_ns) / 1e9
            state = {"state": str(view.state), "reason": view.reason}
            self._put({"type": "state", "t": t, "at_ns": shown_ns, **state})

    def close(self) -> None:
        """Write what is queued and close the file; a second call does nothing."""
        if not self._worker.close() and self.error is None:
            self._fail(SinkError(f"cannot finish {self.path}: the disk does not respond; check it"))

    def _put(self, record: Record) -> None:
        self._worker.put(partial(self._write, record))

    def _write(self, record: Record) -> None:
        self._lines.write_line(json_line(record))
        self.frames += record["type"] == "frame"

    def _finish(self, error: Exception | None) -> None:
        if error is not None:
            self._fail(error)
        with contextlib.suppress(SinkError):
            self._lines.close()

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._say(f"records end early: {error}")
