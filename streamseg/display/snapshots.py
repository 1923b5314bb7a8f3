"""Saves snapshots as two PNG files each, in a background thread so that the display never waits."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

import cv2

from streamseg.core.errors import one_line
from streamseg.core.types import Image

_WAITING = 3
_CLOSE_S = 1.0
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class Snapshots:
    """Writes ``snapshot-<date>-<time>.png`` (as captured) and ``...-annotated.png`` (as displayed)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: queue.Queue[tuple[str, Image, Image] | None] = queue.Queue(_WAITING)
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, original: Image, annotated: Image) -> None:
        """Queue both images to be saved; they must not change any more. Never raises: see :meth:`news`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="streamseg-snapshots", daemon=True)
            self._thread.start()
        name = f"snapshot-{datetime.now():%Y%m%d-%H%M%S-%f}"[:-3]
        try:
            self._jobs.put_nowait((name, original, annotated))
        except queue.Full:
            self._news.put("no snapshot: the disk is still busy with earlier ones")

    def news(self) -> str | None:
        """The outcome of the latest finished snapshot in one line; None if there is nothing new."""
        newest = None
        with contextlib.suppress(queue.Empty):
            while True:
                newest = self._news.get_nowait()
        return newest

    def close(self) -> None:
        """Wait up to a second for snapshots that are still to be written."""
        if self._thread is None:
            return
        ends = time.monotonic() + _CLOSE_S
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=_CLOSE_S)
        self._thread.join(max(0.0, ends - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._news.put(self._save(*job))
            except (OSError, cv2.error) as error:
                self._news.put(f"no snapshot: cannot write to {self._folder}: {one_line(error)}")

    def _save(self, name: str, original: Image, annotated: Image) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        encoded = [cv2.imencode(".png", image, _PNG)[1].tobytes() for image in (original, annotated)]
        for stem in _stems(name):
            paths = self._folder / f"{stem}.png", self._folder / f"{stem}-annotated.png"
            if not any(path.exists() for path in paths):
                for path, data in zip(paths, encoded, strict=True):
                    _write_new(path, data)
                return f"saved {paths[0].name} and {paths[1].name} in {self._folder.resolve()}"
        raise AssertionError  # the stems never end


def _stems(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _write_new(path: Path, data: bytes) -> None:
    """Write a new file; leaves none behind if that fails."""
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            path.unlink(missing_ok=True)
            raise
