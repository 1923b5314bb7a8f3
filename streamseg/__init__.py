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
    from streamseg.capture.screen.find import find_region
    from streamseg.core.errors import (
        DataError,
        EngineError,
        MissingExtra,
        SinkError,
        SourceCut,
        SourceError,
        StreamsegError,
        UsageError,
    )
    from streamseg.core.types import (
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
    from streamseg.pipeline.replay import Report, replay
    from streamseg.segmentation.segmenter import Segmenter
    from streamseg.sinks import open_sink

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
    "Backend": "streamseg.core.types",
    "DataError": "streamseg.core.errors",
    "EngineError": "streamseg.core.errors",
    "Frame": "streamseg.core.types",
    "InputSpec": "streamseg.core.types",
    "MissingExtra": "streamseg.core.errors",
    "Report": "streamseg.pipeline.replay",
    "Result": "streamseg.core.types",
    "Roi": "streamseg.core.types",
    "Segmentation": "streamseg.core.types",
    "Segmenter": "streamseg.segmentation.segmenter",
    "Sink": "streamseg.core.types",
    "SinkError": "streamseg.core.errors",
    "Source": "streamseg.core.types",
    "SourceCut": "streamseg.core.errors",
    "SourceError": "streamseg.core.errors",
    "SourceInfo": "streamseg.core.types",
    "State": "streamseg.core.types",
    "StreamsegError": "streamseg.core.errors",
    "UsageError": "streamseg.core.errors",
    "find_region": "streamseg.capture.screen.find",
    "list_clips": "streamseg.capture",
    "load_backend": "streamseg.backends",
    "open_sink": "streamseg.sinks",
    "open_source": "streamseg.capture",
    "replay": "streamseg.pipeline.replay",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'streamseg' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
