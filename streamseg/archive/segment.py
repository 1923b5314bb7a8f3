"""Segments one clip of an archive and publishes its results: the function that every worker runs."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from streamseg import __version__
from streamseg.archive.clips import Clip
from streamseg.archive.folder import ArchiveFolder
from streamseg.archive.records import FORMAT, ParquetRecords
from streamseg.capture import open_source
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, SinkError, SourceError, StreamsegError, one_line
from streamseg.core.types import Backend, Roi, Sink
from streamseg.pipeline.replay import Replay
from streamseg.segmentation.segmenter import Segmenter
from streamseg.sinks import open_sink

BEAT_S = 0.5
"""Interval at which a worker reports the frames that it has done."""
_BLOCK = 1 << 20
Beat = Callable[[int], None]
"""Receives the frames of the clip that are done, now and then; also a sign of life."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with every clip. It is sent to other processes and machines."""

    out: Path
    """Absolute path of the results, the same on every machine."""
    engine: dict[str, str]
    """:meth:`EngineInfo.identity` of the engine that all workers must have."""
    load: Callable[[int], Backend]
    """Loads that engine with a number of threads; a function of a module, so that it can be sent."""
    roi: Roi | None = None
    find_roi: bool = True
    masks: bool = False
    video: bool = False

    def describe(self) -> dict[str, Any]:
        """What the clips of one folder have in common, and the version."""
        roi = "auto" if self.find_roi else "none"
        return {
            "format": FORMAT,
            "version": __version__,
            "engine": self.engine,
            "roi": roi if self.roi is None else str(self.roi),
            "masks": self.masks,
            "video": self.video,
        }

    def load_engine(self, threads: int) -> Backend:
        """Load the engine. Raises EngineError if it is not the same as elsewhere."""
        backend = self.load(threads)
        if (found := EngineInfo.of(backend).identity()) != self.engine:
            backend.close()
            raise EngineError(
                f"this worker has engine {found}, and the archive is made with {self.engine}; "
                "give --engine the path of a folder that all machines share"
            )
        return backend


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a clip."""

    key: str
    frames: int
    seconds: float
    failed: str | None = None
    """Why the clip itself is broken."""
    fatal: str | None = None
    """Why no clip can be written: a full disk, for example."""


def segment_clip(job: Job, clip: Clip, backend: Backend, beat: Beat) -> Outcome:
    """Segment a clip and publish it, or note why it failed.

    Raises EngineError and MemoryError, after which the worker had better be replaced.
    """
    folder = ArchiveFolder(job.out)
    started = time.monotonic()
    work = _ClipWork(job, clip, folder, backend, beat)
    try:
        work.run(started)
    except SinkError as error:
        return Outcome(clip.key, 0, time.monotonic() - started, fatal=one_line(error))
    except (EngineError, MemoryError):
        raise
    except Exception as error:
        ours = isinstance(error, StreamsegError)
        reason = one_line(error) if ours else f"unexpected {type(error).__name__}: {one_line(error)}"
        try:
            folder.fail(clip, reason, frames=work.frames, records=work.before_fault(reason))
        except SinkError as full:
            return Outcome(clip.key, 0, time.monotonic() - started, fatal=one_line(full))
        return Outcome(clip.key, work.frames, time.monotonic() - started, failed=reason)
    return Outcome(clip.key, work.frames, time.monotonic() - started)


class _ClipWork:
    """One clip while it is segmented."""

    def __init__(self, job: Job, clip: Clip, folder: ArchiveFolder, backend: Backend, beat: Beat) -> None:
        self._job, self._clip, self._folder, self._backend, self._beat = job, clip, folder, backend, beat
        self._records: ParquetRecords | None = None
        self._about: dict[str, Any] = {}
        self._beaten = 0.0

    @property
    def frames(self) -> int:
        return 0 if self._records is None else self._records.frames

    def run(self, started: float) -> None:
        job, clip = self._job, self._clip
        place = self._folder.begin(clip)
        sha256, size = content_hash(clip.uri, lambda: self._tell(0))
        with open_source(clip.uri) as source:
            info = source.info
            region = ImageRegion.of_recording(
                info,
                partial(open_source, clip.uri),
                given=job.roi,
                search=job.find_roi and not clip.uri.startswith("phantom:"),
                open_at=lambda seconds: open_source(clip.uri, start_seconds=seconds),
            )
            self._about = {
                **job.describe(),
                "source": clip.uri,
                "source_sha256": sha256,
                "source_bytes": size,
                "roi": None if region.roi is None else str(region.roi),
                "roi_from": str(region.origin),
                "structures": list(self._backend.spec.structures),
            }
            self._records = ParquetRecords(
                place / "records.parquet", source=clip.uri, source_sha256=sha256, masks=job.masks
            )
            sinks: list[Sink] = [self._records]
            video = place / "video.mp4" if job.video else None
            if video is not None:
                sinks.append(open_sink(video, info, header={}, force=True))
            report = Replay(
                Segmenter(self._backend),
                sinks,
                locate=region.locate_recorded,
                on_result=lambda _: self._tell(self.frames),
            ).run(source, threading.Event())
        if report.error is not None:
            raise report.error
        if not self.frames:
            raise SourceError(f"{info.name} has no frame; record or copy it again")
        self._finish({"seconds": round(time.monotonic() - started, 3), "states": dict(report.states)})
        self._folder.publish(clip, self._records.path, video)

    def before_fault(self, reason: str) -> Path | None:
        """The records of the frames before a fault; None without any."""
        if self._records is None or not self.frames:
            return None
        self._finish({"fault": reason})
        return self._records.path

    def _finish(self, more: dict[str, Any]) -> None:
        assert self._records is not None
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._records.finish({**self._about, "frames": self.frames, **more, "created": created})

    def _tell(self, frames: int) -> None:
        now = time.monotonic()
        if now - self._beaten >= BEAT_S:
            self._beaten = now
            self._beat(frames)


def content_hash(uri: str, alive: Callable[[], None] = lambda: None) -> tuple[str, int | None]:
    """SHA-256 (64 hex digits) of a source's content, and its bytes; of an address: of its text, and None.

    That of a file is what ``sha256sum`` prints. That of a folder covers the relative names and the hashes of
    its files, in order. ``alive`` is called after each mebibyte. Raises SourceError.
    """
    path = Path(uri)
    try:
        if path.is_file():
            return _file_hash(path, alive), path.stat().st_size
        if not path.is_dir():
            return hashlib.sha256(uri.encode()).hexdigest(), None
        whole, size = hashlib.sha256(), 0
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            name = file.relative_to(path).as_posix()
            whole.update(f"{name}\0{_file_hash(file, alive)}\n".encode(errors="surrogateescape"))
            size += file.stat().st_size
        return whole.hexdigest(), size
    except OSError as error:
        raise SourceError(f"cannot read {path}: {one_line(error)}; check its access rights") from error


def _file_hash(path: Path, alive: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
        alive()
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
