"""What tests of RTSP sources share."""

from __future__ import annotations

import threading

from streamseg.capture.rtsp.source import RtspSource
from streamseg.core.types import Frame, Source

PATIENT = 60.0
"""Seconds for what takes a moment: the machine may be busy."""


def take(source: Source, count: int) -> list[Frame]:
    frames: list[Frame] = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


def opened(url: str, transport: str = "tcp") -> RtspSource:
    """A source that waits patiently for frames."""
    return RtspSource(url, transport=transport, open_seconds=PATIENT, read_seconds=PATIENT)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("streamseg-rtsp")]
