"""The folder of an archive's results, in which every clip appears whole, once, or not at all.

::

    archive.json            engine, options and version: the same for all clips in it
    clips/NAME-KEY.parquet  the records of a clip; it appears by a rename, when all else of the clip is there
    videos/NAME-KEY.mp4     with --video
    failed/NAME-KEY.json    a clip that failed; beside it the records of the frames before the fault, if any
    failed.parquet          all of those, in one table
    summary.json            states and areas over all clips
    work/                   clips in progress

A run that is killed leaves something in ``work`` at most, which the next one removes.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from streamseg.archive.clips import Clip, Shard
from streamseg.core.errors import UsageError
from streamseg.core.files import read_json, write_json, write_whole
from streamseg.core.printable import printable
from streamseg.sinks.target import sink_errors

_KEY = 16
_FAILED = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("frames", pa.int64(), nullable=False),
        pa.field("workers_lost", pa.int64(), nullable=False),
        pa.field("time", pa.string(), nullable=False),
    ]
)


class ArchiveFolder:
    """The results of an archive. Every method raises SinkError if something cannot be written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clips, self.failed, self.videos, self.work = (
            root / name for name in ("clips", "failed", "videos", "work")
        )

    @contextmanager
    def opened(self, job: Mapping[str, Any], shard: Shard) -> Iterator[None]:
        """Hold the folder for one run of a shard. Raises UsageError.

        That is if another run has it, or if its clips were made by another engine or with other options.
        """
        with sink_errors(self.root):
            for folder in (self.clips, self.failed, self.videos, self.work):
                folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.work / f".lock-{shard.index}-of-{shard.count}")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise UsageError(
                    f"another run is writing into {self.root}; wait for its end, or give each run a --shard"
                ) from error
        try:
            self._check(job)
            yield
        finally:
            lock.release()

    def _check(self, job: Mapping[str, Any]) -> None:
        path = self.root / "archive.json"
        held = read_json(path)
        if held is None:
            write_json(path, job)
            return
        if differing := [name for name in job if name != "version" and held.get(name) != job[name]]:
            name = differing[0]
            raise UsageError(
                f"{self.root} holds clips made with {name} {held.get(name)}, and this run has {job[name]}; "
                "choose another --out"
            )

    def published(self) -> set[str]:
        """Keys of the clips that are done."""
        return {path.stem[-_KEY:] for path in self.clips.glob("*.parquet")}

    def is_published(self, clip: Clip) -> bool:
        return self.result(clip).exists()

    def failures(self) -> set[str]:
        """Keys of the clips that failed."""
        return {path.stem[-_KEY:] for path in self.failed.glob("*.json")} - self.published()

    def result(self, clip: Clip) -> Path:
        """The file of a clip's records."""
        return self.clips / f"{clip.name}.parquet"

    def begin(self, clip: Clip) -> Path:
        """An empty folder to work in on a clip; what a killed worker left of the clip is removed.

        Its name is new every time: a worker that was given up, and lives on, cannot publish a successor's
        unfinished file.
        """
        self._clean(clip)
        place = self.work / f"{clip.name}.{secrets.token_hex(4)}"
        with sink_errors(place):
            place.mkdir(parents=True)
        return place

    def _clean(self, clip: Clip) -> None:
        for place in self.work.glob(f"{clip.name}.*"):
            shutil.rmtree(place, ignore_errors=True)

    def publish(self, clip: Clip, records: Path, video: Path | None) -> None:
        """Make a clip's results appear, first the video, then the records, each once it is on the disk."""
        with sink_errors(self.result(clip)):
            if video is not None:
                _move(video, self.videos / f"{clip.name}{video.suffix}")
            _move(records, self.result(clip))
            for path in (self._failure(clip), self.failed / f"{clip.name}.parquet"):
                path.unlink(missing_ok=True)  # of an earlier run
        self._clean(clip)

    def fail(
        self, clip: Clip, reason: str, *, frames: int = 0, records: Path | None = None, workers_lost: int = 0
    ) -> None:
        """Note why a clip failed; ``records`` are those of the ``frames`` before the fault."""
        with sink_errors(self.failed):
            if records is not None:
                _move(records, self.failed / f"{clip.name}.parquet")
        row = {
            "source": printable(clip.uri),
            "key": clip.key,
            "reason": reason,
            "frames": frames,
            "workers_lost": workers_lost,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self._failure(clip), row)
        self._clean(clip)

    def write_failed(self) -> int:
        """Write ``failed.parquet``, from the notes of this run and all others; the number of its rows."""
        wanted = self.failures()
        paths = sorted(path for path in self.failed.glob("*.json") if path.stem[-_KEY:] in wanted)
        rows = [row for path in paths if (row := read_json(path)) is not None]
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=_FAILED), buffer)
        write_whole(self.root / "failed.parquet", buffer.getvalue().to_pybytes())
        return len(rows)

    def _failure(self, clip: Clip) -> Path:
        return self.failed / f"{clip.name}.json"


def _move(source: Path, target: Path) -> None:
    """Rename a file after its content, and before the folder's, has reached the disk."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    with suppress(OSError):  # some systems and network disks cannot do that with a folder
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
