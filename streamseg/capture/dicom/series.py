"""A series that a scanner exported as one file per frame, in a folder of its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from streamseg.capture.base import START_TOLERANCE, RecordedSource, check_start
from streamseg.capture.dicom.header import frame_count, instance_number, read_header
from streamseg.capture.dicom.source import DicomSource
from streamseg.capture.files import check_none_added, is_clip, is_dicom, visible_files
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Frame, SourceInfo
from streamseg.reporting.formatting import counted

_MIN_FILES = 2


def series_in(paths: Sequence[Path]) -> list[Path]:
    """The files by instance number, if all are single frames of one series; else nothing."""
    if len(paths) < _MIN_FILES:
        return []
    numbered: list[tuple[float, int, Path]] = []
    series: set[str] = set()
    for position, path in enumerate(paths):
        with suppress(Exception), warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            header = read_header(file)[0]
            if frame_count(header) == 1 and "Rows" in header:
                series.add(str(header.get("SeriesInstanceUID") or ""))
                numbered.append((instance_number(header), position, path))
        if len(numbered) <= position or len(series) > 1 or "" in series:
            return []
    return [path for _, _, path in sorted(numbered)]


def series_of_folder(folder: Path) -> list[Path]:
    """The files of a folder by instance number, if its clips are the single frames of one series; else
    nothing."""
    clips = [path for path in visible_files(folder) if is_clip(path)]
    return series_in(clips) if all(map(is_dicom, clips)) else []


def _identity_of(path: Path) -> tuple[str, str]:
    """UIDs of series and instance of a file; empty if it has none or cannot be read."""
    keywords = ("SeriesInstanceUID", "SOPInstanceUID")
    with suppress(Exception), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        header = read_header(file, keywords)[0]
        series, instance = (str(header.get(keyword) or "") for keyword in keywords)
        return series, instance
    return "", ""


class DicomSeriesSource(RecordedSource):
    """The frames of a series of single-frame files. Files that cannot be read are skipped and reported.

    A frame's ``file_index`` is the place of its file in ``paths``. A file that was replaced by another
    instance since the series was opened counts as one that cannot be read.
    """

    def __init__(
        self, paths: Sequence[Path], name: str, *, start_seconds: float = 0.0, sar: Fraction | None = None
    ) -> None:
        """Open a series in the order given; its first file is decoded at once.

        Raises SourceError if the first file cannot be read, UsageError for a start without frame times.
        """
        check_start(start_seconds)
        with DicomSource(paths[0], sar=sar) as first:
            info = first.info
        self._base = info.time_base
        number = 0
        if start_seconds > 0:
            if self._base is None:
                raise UsageError(f"{name} has no frame times to start at; omit the start")
            number = -int(-(Fraction(start_seconds) - START_TOLERANCE) // self._base)
            if number >= len(paths):
                raise UsageError(f"nothing in {name} at or after {start_seconds} s; give an earlier start")
        self.paths = tuple(paths)
        identities = [_identity_of(path) for path in paths]
        self.instances = tuple(instance for _, instance in identities)
        """SOP Instance UID of each file of ``paths``."""
        self._series, self._sar = identities[0][0], sar
        self._current: DicomSource | None = None
        described = SourceInfo(
            name, info.height, info.width, len(paths) - number, info.rate, info.time_base, info.region
        )
        super().__init__(described, self._deliver(number), self._release)

    def _release(self) -> None:
        if self._current is not None:
            self._current.close()

    def _deliver(self, first: int) -> Iterator[Frame]:
        index, failed = 0, 0
        for number in range(first, len(self.paths)):
            if _identity_of(self.paths[number]) != (self._series, self.instances[number]):  # replaced
                failed += 1
                continue
            try:
                with DicomSource(self.paths[number], sar=self._sar) as self._current:
                    frame = next(self._current)
            except (SourceError, UsageError):  # UsageError: it was there when the series was opened
                failed += 1
                continue
            seconds = None if self._base is None else float(number * self._base)
            yield replace(frame, index=index, pts_seconds=seconds, file_index=number)
            index += 1
        if failed:
            raise SourceError(
                f"{self.info.name} has {counted(failed, 'file')} that cannot be read; "
                f"{counted(index, 'frame')} were read from the others; export the series again"
            )
        check_none_added(self.paths[0].parent, self.paths, self._is_of_series)

    def _is_of_series(self, path: Path) -> bool:
        return _identity_of(path)[0] == self._series
