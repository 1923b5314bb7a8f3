"""Sinks write results, which they only read, to a video or records, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamseg.core.errors import UsageError
from streamseg.core.plugins import plugins
from streamseg.core.types import Result, Sink, SourceInfo
from streamseg.sinks.records import CsvRecords, JsonRecords, read_records
from streamseg.sinks.video import VideoSink

__all__ = ["CsvRecords", "JsonRecords", "NullSink", "VideoSink", "open_sink", "read_records"]
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".ts")
RECORD_SUFFIXES = (".jsonl", ".csv")


def record_suffixes() -> tuple[str, ...]:
    """Suffixes of files of records: our own, then those of plug-ins."""
    return *RECORD_SUFFIXES, *(f".{name}" for name in plugins("sinks"))


def open_sink(
    uri: str | Path,
    info: SourceInfo,
    *,
    header: Mapping[str, object],
    force: bool = False,
    full_frame: bool = False,
    hud: bool = True,
    vessels: bool = True,
) -> Sink:
    """Open an output by its name: a video, .jsonl or .csv records, a plug-in's, or ``null:``.

    ``info`` describes the source; ``header`` goes into the first line of JSON lines (source, engine, roi);
    ``full_frame``, ``hud`` and ``vessels`` are options of the video. The path is checked here, before any
    frame: raises UsageError for an unknown suffix, or a file that exists without ``force``, and SinkError if
    nothing can be written.
    """
    if str(uri) == "null:":
        return NullSink()
    path = Path(uri)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoSink(path, info, force=force, full_frame=full_frame, hud=hud, vessels=vessels)
    if suffix == ".jsonl":
        return JsonRecords(path, header=header, force=force)
    if suffix == ".csv":
        return CsvRecords(path, force=force)
    if (plugin := plugins("sinks").get(suffix[1:])) is not None:
        sink: Sink = plugin.make(path, info, header=header, force=force)
        return sink
    known = ", ".join((*VIDEO_SUFFIXES, *record_suffixes()))
    raise UsageError(f"output {str(uri)!r} has an unknown suffix; use one of {known}, or null:")


class NullSink:
    """Counts results and discards them."""

    name = "null"
    path: Path | None = None

    def __init__(self) -> None:
        self.frames = 0
        """Results received."""

    def write(self, result: Result) -> None:
        """Count one result."""
        self.frames += 1

    def close(self) -> None:
        """Nothing to finish."""
