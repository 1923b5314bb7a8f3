"""Live guidance: the newest frame with its outline, on time or not at all."""

from streamseg.live.loop import LiveLoop, LiveOptions
from streamseg.live.report import LiveReport
from streamseg.live.streams import run_streams

__all__ = ["LiveLoop", "LiveOptions", "LiveReport", "run_streams"]
