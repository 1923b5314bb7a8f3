"""What the scheduler does with workers that fail, without processes."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from tests.optional import needs

needs("pyarrow")

from streamseg.archive import scheduler as module  # noqa: E402
from streamseg.archive.clips import Clip  # noqa: E402
from streamseg.archive.folder import ArchiveFolder  # noqa: E402
from streamseg.archive.scheduler import Event, Kind, Scheduler  # noqa: E402
from streamseg.archive.segment import Outcome  # noqa: E402
from streamseg.core.errors import StreamsegError  # noqa: E402

CLIPS = [Clip.of(f"phantom:?seed={seed}") for seed in range(6)]


class FakeCrew:
    """Workers that do a clip at once, except a ``deadly`` one; they may also never start."""

    def __init__(
        self, *, deadly: Clip | None = None, start: Kind | None = Kind.READY, fatal: str | None = None
    ) -> None:
        self.size = 2
        self.deadly, self.start, self.fatal = deadly, start, fatal
        self.hired = 0
        self.done: list[Clip] = []
        self.closed = False
        self._events: deque[Event] = deque()

    def hire(self) -> int:
        self.hired += 1
        if self.start is not None:
            self._events.append(Event(self.hired, self.start, reason="no engine"))
        return self.hired

    def assign(self, worker: int, clip: Clip) -> None:
        if clip == self.deadly:
            self._events.append(Event(worker, Kind.DIED, reason="it was ended by SIGSEGV"))
            return
        self.done.append(clip)
        self._events.append(Event(worker, Kind.DONE, outcome=Outcome(clip.key, 10, 1.0, fatal=self.fatal)))

    def events(self, timeout: float) -> list[Event]:
        return [self._events.popleft()] if self._events else []

    def dismiss(self, worker: int) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    found = ArchiveFolder(tmp_path)
    for path in (found.clips, found.failed, found.work):
        path.mkdir()
    return found


def test_every_clip_is_given_once(folder: ArchiveFolder) -> None:
    crew = FakeCrew()
    run = Scheduler(crew, folder)
    run.run(CLIPS, lambda: False)
    assert crew.done == CLIPS
    assert (run.published, run.failed, run.frames, crew.hired, crew.closed) == (6, 0, 60, 2, True)


def test_a_clip_that_kills_three_workers_is_failed(folder: ArchiveFolder) -> None:
    crew, said = FakeCrew(deadly=CLIPS[1]), list[str]()
    run = Scheduler(crew, folder, say=said.append)
    run.run(CLIPS, lambda: False)
    assert (run.published, run.failed, len(said)) == (5, 1, 3)
    assert folder.write_failed() == 1
    assert "3 workers ended in it; the last: it was ended by SIGSEGV" in said[-1]


def test_a_clip_that_was_published_by_a_worker_that_died_is_done(
    folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.result(CLIPS[1]).write_bytes(b"")
    monkeypatch.setattr(module, "read_about", lambda path: {"frames": 7})
    run = Scheduler(FakeCrew(deadly=CLIPS[1]), folder)
    run.run(CLIPS, lambda: False)
    assert (run.published, run.failed, run.frames) == (6, 0, 57)


def test_workers_that_cannot_start_end_the_run(folder: ArchiveFolder) -> None:
    for kind, message in ((Kind.UNABLE, "cannot start: no engine"), (Kind.DIED, "3 workers in a row ended")):
        crew = FakeCrew(start=kind)
        with pytest.raises(StreamsegError, match=message):
            Scheduler(crew, folder).run(CLIPS, lambda: False)
        assert crew.closed


def test_workers_that_never_come_end_the_run(folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.01)
    with pytest.raises(StreamsegError, match="no worker was ready"):
        Scheduler(FakeCrew(start=None), folder).run(CLIPS, lambda: False)


def test_a_full_disk_ends_the_run_and_fails_no_clip(folder: ArchiveFolder) -> None:
    with pytest.raises(StreamsegError, match=r"disk full; run the same command again"):
        Scheduler(FakeCrew(fatal="disk full"), folder).run(CLIPS, lambda: False)
    assert folder.write_failed() == 0


def test_a_stop_gives_out_no_more_clips(folder: ArchiveFolder) -> None:
    crew = FakeCrew()
    Scheduler(crew, folder).run(CLIPS, lambda: len(crew.done) >= 2)
    assert len(crew.done) == 2
