"""Nerve segmentation of ultrasound video. Research software, not a medical device.

Segment a clip frame by frame::

    import streamseg

    with streamseg.open_source("clip.mp4") as source:
        segmenter = streamseg.Segmenter(streamseg.load_backend(), roi=None)
        for frame in source:
            print(segmenter.segment(frame))

The public names stand in groups below. Each is imported when it is first used, so ``import streamseg`` is
quick and brings in no decoder, no inference runtime and no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The same names for type checkers and IDEs; a test compares the two.
    from streamseg.backends import load_backend as load_backend
    from streamseg.capture import list_clips as list_clips
    from streamseg.capture import open_source as open_source
    from streamseg.capture.screen.find import find_region as find_region
    from streamseg.core.errors import DataError as DataError
    from streamseg.core.errors import EngineError as EngineError
    from streamseg.core.errors import MissingExtra as MissingExtra
    from streamseg.core.errors import SinkError as SinkError
    from streamseg.core.errors import SourceCut as SourceCut
    from streamseg.core.errors import SourceError as SourceError
    from streamseg.core.errors import StreamsegError as StreamsegError
    from streamseg.core.errors import UsageError as UsageError
    from streamseg.core.types import Backend as Backend
    from streamseg.core.types import Frame as Frame
    from streamseg.core.types import InputSpec as InputSpec
    from streamseg.core.types import Result as Result
    from streamseg.core.types import Roi as Roi
    from streamseg.core.types import Segmentation as Segmentation
    from streamseg.core.types import Sink as Sink
    from streamseg.core.types import Source as Source
    from streamseg.core.types import SourceInfo as SourceInfo
    from streamseg.core.types import State as State
    from streamseg.core.types import Structure as Structure
    from streamseg.pipeline.replay import Report as Report
    from streamseg.pipeline.replay import replay as replay
    from streamseg.segmentation.segmenter import Segmenter as Segmenter
    from streamseg.sinks import open_sink as open_sink

# OpenVINO and NNCF report to an analytics server when they are imported. Software beside a patient must not:
# without this module they go on in silence.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"

_HOMES = {
    # Read video: a clip, a DICOM file, a folder, a phantom.
    "open_source": "streamseg.capture",
    "list_clips": "streamseg.capture",
    "find_region": "streamseg.capture.screen.find",
    # Segment a frame.
    "load_backend": "streamseg.backends",
    "Segmenter": "streamseg.segmentation.segmenter",
    # Segment a whole clip into files.
    "replay": "streamseg.pipeline.replay",
    "Report": "streamseg.pipeline.replay",
    "open_sink": "streamseg.sinks",
    # Values.
    "Frame": "streamseg.core.types",
    "Roi": "streamseg.core.types",
    "Segmentation": "streamseg.core.types",
    "Structure": "streamseg.core.types",
    "State": "streamseg.core.types",
    "Result": "streamseg.core.types",
    "SourceInfo": "streamseg.core.types",
    "InputSpec": "streamseg.core.types",
    # Protocols, for sources, engines and outputs of your own.
    "Source": "streamseg.core.types",
    "Backend": "streamseg.core.types",
    "Sink": "streamseg.core.types",
    # Errors.
    "StreamsegError": "streamseg.core.errors",
    "UsageError": "streamseg.core.errors",
    "MissingExtra": "streamseg.core.errors",
    "SourceError": "streamseg.core.errors",
    "SourceCut": "streamseg.core.errors",
    "DataError": "streamseg.core.errors",
    "EngineError": "streamseg.core.errors",
    "SinkError": "streamseg.core.errors",
}
"""The public names, each with the module that it is imported from."""

__all__ = list(_HOMES)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'streamseg' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
