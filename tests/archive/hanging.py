"""A clip that never returns, in a worker process; it is not one that fails or dies."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from streamseg.archive import scheduler, segment
from streamseg.archive.clips import Clip, Shard
from streamseg.archive.folder import ArchiveFolder
from streamseg.archive.local import LocalCrew
from streamseg.archive.scheduler import Crew, Scheduler
from streamseg.archive.segment import Job
from streamseg.backends import FakeBackend
from streamseg.capture import open_source
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import Backend, Frame, Source
from tests.fakes import SPEC

OTHERS = [Clip.of(f"phantom:?frames=10&size=96x64&seed={seed}") for seed in (1, 2)]
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


def archive_with_hanging(
    crew: Callable[[Job], Crew], made: Job, others: Sequence[Clip]
) -> tuple[Scheduler, list[str]]:
    """A whole run over the clip that hangs and two others, and what it said.

    The limit on workers without progress counts from the last sign of it; here it is over as soon as a worker
    hangs.
    """
    said: list[str] = []
    notes = made.out.parent / "notes"

    def progress(clips: int, frames: int) -> None:
        hanging = len(list(notes.iterdir())) > len(said)
        scheduler.STALL_S = 0.0 if hanging else 600.0

    run = Scheduler(crew(made), ArchiveFolder(made.out), on_progress=progress, say=said.append)
    run.run([others[0], HANGS, *others[1:]], lambda: False)
    return run, said


def archive_over_ray(folder: str) -> None:
    """:func:`archive_with_hanging` on the cluster of RAY_ADDRESS; prints clips, failed clips and frames."""
    from streamseg.archive.ray_cluster import RayCrew

    run, said = archive_with_hanging(lambda made: RayCrew(made, 1), job(Path(folder), holding=True), OTHERS)
    print(json.dumps([run.published, run.failed, run.frames, said]))


def drive(folder: str) -> None:
    """A run over the clip that hangs, whose worker holds the interpreter."""
    made = job(Path(folder), holding=True)
    Scheduler(LocalCrew(made, 1), ArchiveFolder(made.out)).run([HANGS], lambda: False)
