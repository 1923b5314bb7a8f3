"""Live guidance: the newest frame, segmented, shown on time or not at all."""

from streamseg.live.loop import LiveOptions, run_live
from streamseg.live.report import LiveReport

__all__ = ["LiveOptions", "LiveReport", "run_live"]
