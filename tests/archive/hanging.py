"""A clip that never returns, in a worker process; it is not one that fails or dies."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from streamseg.archive import segment
from streamseg.archive.clips import Clip, Shard
from streamseg.archive.folder import ArchiveFolder
from streamseg.archive.local import LocalCrew
from streamseg.archive.scheduler import Scheduler
from streamseg.archive.segment import Job
from streamseg.backends import FakeBackend
from streamseg.capture import open_source
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import Backend, Frame, Source
from tests.fakes import SPEC

HANGS = Clip.of("phantom:?frames=10&size=96x64&seed=13")


class _Hanging:
    """A source that delivers three frames, notes its process in a folder, and never comes back."""

    live = False

    def __init__(self, source: Source, notes: Path, *, holding: bool) -> None:
        self.info, self.close = source.info, source.close
        self._source, self._notes, self._holding = source, notes, holding

    def __enter__(self) -> _Hanging:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(self._source):
            if number == 3:
                (self._notes / str(os.getpid())).touch()
                while self._holding:
                    ctypes.PyDLL(None).pause()  # keeps the interpreter, as a decoder in C may
                while True:
                    time.sleep(60)
            yield frame


def load(notes: Path, holding: bool, threads: int) -> Backend:
    """An engine; with it the worker gets a source that hangs."""

    def opened(uri: str, **options: Any) -> Any:
        source = open_source(uri, **options)
        return _Hanging(source, notes, holding=holding) if uri == HANGS.uri else source

    segment.open_source = opened
    return FakeBackend(SPEC)


def job(folder: Path, *, holding: bool) -> Job:
    """Results in ``folder/out``, a note for each process that hangs in ``folder/notes``."""
    (folder / "notes").mkdir()
    identity = EngineInfo.of(FakeBackend(SPEC)).identity()
    made = Job(folder / "out", identity, partial(load, folder / "notes", holding))
    with ArchiveFolder(made.out).opened(made.describe(), Shard()):
        return made


def drive(folder: str) -> None:
    """A run over the clip that hangs, whose worker holds the interpreter."""
    made = job(Path(folder), holding=True)
    Scheduler(LocalCrew(made, 1), ArchiveFolder(made.out)).run([HANGS], lambda: False)
