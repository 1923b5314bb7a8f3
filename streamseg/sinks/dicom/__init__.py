"""Sinks that write results as DICOM objects of the cine's own study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamseg.core.cine import CineReference
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import Sink, SourceInfo
from streamseg.sinks.dicom.burned_in import BurnedInSink
from streamseg.sinks.dicom.report import ReportSink
from streamseg.sinks.dicom.segmentation import SegmentationSink

__all__ = ["BurnedInSink", "ReportSink", "SegmentationSink", "dicom_paths", "open_dicom_sinks"]


def dicom_paths(folder: Path, name: str, *, burned_in: bool) -> list[Path]:
    """The files that :func:`open_dicom_sinks` writes into a folder for a cine of this name."""
    kinds = ("seg", "sr", "burned-in") if burned_in else ("seg", "sr")
    return [folder / f"{name}-{kind}.dcm" for kind in kinds]


def open_dicom_sinks(
    paths: Sequence[Path],
    cine: CineReference,
    info: SourceInfo,
    engine: EngineInfo,
    *,
    force: bool = False,
    full_frame: bool = False,
    vessels: bool = True,
) -> list[tuple[Path, Sink]]:
    """Open the sinks of the files of :func:`dicom_paths`, in their order.

    ``full_frame`` keeps the machine's whole screen in the images with outlines, and ``vessels`` draws those
    there. Each file appears, whole, when its sink is closed. Raises UsageError for a file that exists without
    ``force``, and SinkError if nothing can be written.
    """
    opened: list[tuple[Path, Sink]] = [
        (paths[0], SegmentationSink(paths[0], cine, engine, force=force)),
        (paths[1], ReportSink(paths[1], cine, engine, force=force)),
    ]
    if len(paths) > 2:
        options: dict[str, bool] = {"force": force, "full_frame": full_frame, "vessels": vessels}
        burned_in = BurnedInSink(paths[2], cine, info, engine, **options)
        opened.append((paths[2], burned_in))
    return opened
