"""Gives clips to workers, replaces workers that die, and gives up a clip that kills three of them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from streamseg.archive.clips import Clip
from streamseg.archive.folder import ArchiveFolder
from streamseg.archive.records import read_about
from streamseg.archive.segment import Outcome
from streamseg.core.errors import StreamsegError
from streamseg.core.types import Say

MAX_LOST = 3
"""Workers that one clip may kill, and that may die in a row before they are ready."""
STALL_S = 600.0
"""A worker whose clip makes no progress for this long is ended, however long clips take; without any worker
the run ends."""
_TICK_S = 0.5


class Kind(Enum):
    """What a worker reports."""

    READY = auto()
    FRAMES = auto()
    """It is alive and has done so many frames of its clip."""
    DONE = auto()
    DIED = auto()
    UNABLE = auto()
    """It can never work: its engine cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Event:
    """A report of a worker."""

    worker: int
    kind: Kind
    frames: int = 0
    outcome: Outcome | None = None
    reason: str = ""


class Crew(Protocol):
    """Workers of one kind. After a worker's DIED it is never mentioned again."""

    size: int
    """How many workers there should be."""

    def hire(self) -> int:
        """Start a worker, which reports READY or UNABLE; its number."""
        ...

    def assign(self, worker: int, clip: Clip) -> None:
        """Give a clip to a worker that is ready; it reports FRAMES, then DONE or DIED."""
        ...

    def events(self, timeout: float) -> list[Event]:
        """What workers have reported; wait at most ``timeout`` seconds for the first report."""
        ...

    def dismiss(self, worker: int) -> None:
        """End a worker at once, whatever it does; it reports nothing more."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class Scheduler:
    """One run over the clips that are not done."""

    def __init__(
        self,
        crew: Crew,
        folder: ArchiveFolder,
        *,
        on_progress: Callable[[int, int], None] = lambda clips, frames: None,
        say: Say = lambda message: None,
    ) -> None:
        """``on_progress`` gets the clips and frames that are done, frames of clips in progress included."""
        self._crew, self._folder, self._on_progress, self._say = crew, folder, on_progress, say
        self.published = self.failed = 0
        """Clips of this run."""
        self.frames = 0
        """Frames of the clips of this run that are done."""
        self._waiting: deque[Clip] = deque()
        self._working: dict[int, Clip] = {}
        self._partly: dict[int, int] = {}
        self._idle: list[int] = []
        self._heard: dict[int, float] = {}
        self._lost: Counter[str] = Counter()
        self._never_ready = 0

    def run(self, clips: Sequence[Clip], stopped: Callable[[], bool]) -> None:
        """Do all clips. Once ``stopped`` says so, only those in progress are finished.

        Raises StreamsegError if no clip can be done: results cannot be written, workers cannot start.
        """
        self._waiting.extend(clips)
        try:
            while (self._waiting and not stopped()) or self._working:
                self._hire()
                while self._idle and self._waiting and not stopped():
                    self._assign(self._idle.pop(), self._waiting.popleft())
                for event in self._crew.events(_TICK_S):
                    self._handle(event)
                self._end_stalled()
                self._on_progress(self.published + self.failed, self.frames + sum(self._partly.values()))
        finally:
            self._crew.close()

    def _hire(self) -> None:
        wanted = min(self._crew.size, len(self._waiting) + len(self._working))
        while len(self._heard) < wanted:
            self._heard[self._crew.hire()] = time.monotonic()

    def _assign(self, worker: int, clip: Clip) -> None:
        self._working[worker] = clip
        self._heard[worker] = time.monotonic()
        self._crew.assign(worker, clip)

    def _handle(self, event: Event) -> None:
        worker = event.worker
        self._heard[worker] = time.monotonic()
        if event.kind is Kind.READY:
            self._never_ready = 0
            self._idle.append(worker)
        elif event.kind is Kind.FRAMES:
            self._partly[worker] = event.frames
        elif event.kind is Kind.UNABLE:
            raise StreamsegError(f"a worker cannot start: {event.reason}")
        elif event.kind is Kind.DONE and event.outcome is not None:
            self._done(worker, event.outcome)
        else:
            self._died(worker, event.reason)

    def _done(self, worker: int, outcome: Outcome) -> None:
        if outcome.fatal is not None:
            raise StreamsegError(f"{outcome.fatal}; run the same command again to go on")
        clip = self._working.pop(worker)
        self._partly.pop(worker, None)
        self._idle.append(worker)
        self.frames += outcome.frames
        if outcome.failed is None:
            self.published += 1
        else:
            self.failed += 1
            self._say(f"failed: {clip.uri}: {outcome.failed}")

    def _died(self, worker: int, reason: str) -> None:
        self._heard.pop(worker, None)
        self._partly.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
        clip = self._working.pop(worker, None)
        if clip is None:
            self._never_ready += 1
            if self._never_ready >= MAX_LOST:
                raise StreamsegError(f"{MAX_LOST} workers in a row ended before their first clip: {reason}")
        elif self._folder.is_published(clip):  # it died between publishing and reporting
            self.published += 1
            self.frames += int(read_about(self._folder.result(clip))["frames"])
        else:
            self._lost[clip.key] += 1
            if self._lost[clip.key] < MAX_LOST:
                self._say(f"a worker ended in {clip.uri} ({reason}); the clip is tried again")
                self._waiting.append(clip)
                return
            why = f"{MAX_LOST} workers ended in it; the last: {reason}"
            self._folder.fail(clip, why, workers_lost=MAX_LOST)
            self.failed += 1
            self._say(f"failed: {clip.uri}: {why}")

    def _end_stalled(self) -> None:
        now = time.monotonic()
        if self._working:
            for worker in [w for w in self._working if now - self._heard[w] > STALL_S]:
                self._crew.dismiss(worker)
                self._died(worker, f"its work did not go on for {STALL_S:.0f} s")
        elif self._heard and now - max(self._heard.values()) > STALL_S:
            raise StreamsegError(
                f"no worker was ready within {STALL_S:.0f} s; check that there are free processors"
            )
