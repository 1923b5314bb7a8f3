"""Nerve segmentation of ultrasound video. Research software, not a medical device.

::

    import streamseg

    with streamseg.open_source("clip.mp4") as source:
        segmenter = streamseg.Segmenter(streamseg.load_backend(), roi=None)
        for frame in source:
            print(segmenter.segment(frame))

The names below load when first used, so ``import streamseg`` is quick and brings in no decoder, no
inference runtime and no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.backends import load_backend
    from streamseg.capture import list_clips, open_source
    from streamseg.capture.screen import find_region
    from streamseg.errors import (
        DataError,
        EngineError,
        MissingExtra,
        SinkError,
        SourceCut,
        SourceError,
        StreamsegError,
        UsageError,
    )
    from streamseg.pipeline import Report, replay
    from streamseg.segment import Segmenter
    from streamseg.sinks import open_sink
    from streamseg.types import (
        Backend,
        Frame,
        InputSpec,
        Result,
        Roi,
        Segmentation,
        Sink,
        Source,
        SourceInfo,
        State,
    )

# OpenVINO and NNCF report to an analytics server when they are imported. What runs beside a patient talks to
# nobody: without this module they go on in silence.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "DataError",
    "EngineError",
    "Frame",
    "InputSpec",
    "MissingExtra",
    "Report",
    "Result",
    "Roi",
    "Segmentation",
    "Segmenter",
    "Sink",
    "SinkError",
    "Source",
    "SourceCut",
    "SourceError",
    "SourceInfo",
    "State",
    "StreamsegError",
    "UsageError",
    "__version__",
    "find_region",
    "list_clips",
    "load_backend",
    "open_sink",
    "open_source",
    "replay",
]

_HOMES = {
    "Backend": "streamseg.types",
    "DataError": "streamseg.errors",
    "EngineError": "streamseg.errors",
    "Frame": "streamseg.types",
    "InputSpec": "streamseg.types",
    "MissingExtra": "streamseg.errors",
    "Report": "streamseg.pipeline",
    "Result": "streamseg.types",
    "Roi": "streamseg.types",
    "Segmentation": "streamseg.types",
    "Segmenter": "streamseg.segment",
    "Sink": "streamseg.types",
    "SinkError": "streamseg.errors",
    "Source": "streamseg.types",
    "SourceCut": "streamseg.errors",
    "SourceError": "streamseg.errors",
    "SourceInfo": "streamseg.types",
    "State": "streamseg.types",
    "StreamsegError": "streamseg.errors",
    "UsageError": "streamseg.errors",
    "find_region": "streamseg.capture.screen",
    "list_clips": "streamseg.capture",
    "load_backend": "streamseg.backends",
    "open_sink": "streamseg.sinks",
    "open_source": "streamseg.capture",
    "replay": "streamseg.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'streamseg' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
