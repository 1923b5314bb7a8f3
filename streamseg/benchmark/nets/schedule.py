"""How long and how often the nets' benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WARM_UP = 2
"""Calls of each variant that do not count, at the beginning of a point."""
SLOW_S = 1.0
"""Calls that take longer get no call that does not count before their blocks."""
FEWEST, MOST = 4, 256
"""Frames of one end-to-end run."""
FEWEST_LATE = 2
"""The same where a point has no time left: with one interval between them there is a rate."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how often a point is measured."""

    rounds: int
    block_s: float
    """Of engine calls, in each round; at least one call."""
    end_s: float
    """Of end-to-end frames, in each round; at least FEWEST."""
    budget_s: float
    """No round begins that would end later, but for the first ``least_rounds``."""
    least_rounds: int
    paced_s: float
    """Of each pace."""
    pictures: int
    """Phantoms that trained nets are judged on where there are no labelled images."""
    untrained_pictures: int
    """Pictures on which random weights are compared with FP32."""
    calibration: int
    """Phantoms for INT8, where an engine has to be built."""
    untrained_calibration: int
    """The same for random weights, whose answers mean nothing; their speed does not depend on it."""
    stall_s: float
    """A block, or anything else, that takes longer is left out."""
    starts: bool
    """Start each in a process of its own, for warm starts and memory."""
    clip_frames: int = 64
    """Of the clip, kept in memory."""
    total_s: float | None = None
    """Where a run is to end by then, points get fewer rounds, and in the end no paces; never no rounds. From
    the second point on, of the kernels that show the machine's limits only the fastest are measured."""
    paces: tuple[float, ...] = (30.0, 60.0)
    """Frames per second, rising."""
    all_paces: bool = True
    """False leaves out those above one that an engine's calls alone are too slow for."""

    def to_json(self) -> dict[str, Any]:
        """What a result says about how it was measured."""
        return {
            "rounds": self.rounds,
            "least_rounds": self.least_rounds,
            "budget_seconds": self.budget_s,
            "warmup_calls": WARM_UP,
            "lead_in_calls": 1,
            "lead_in_below_seconds": SLOW_S,
            "block_seconds": self.block_s,
            "end_to_end_seconds": self.end_s,
            "end_to_end_least_frames": FEWEST,
            "paces_fps": list(self.paces),
            "paced_seconds": self.paced_s,
            "all_paces": self.all_paces,
            "calibration_frames": self.calibration,
            "untrained_calibration_frames": self.untrained_calibration,
            "total_seconds": self.total_s,
            "stall_seconds": self.stall_s,
        }


QUICK = Schedule(
    rounds=3,
    least_rounds=1,
    budget_s=9.0,
    block_s=0.15,
    end_s=0.25,
    paced_s=0.4,
    pictures=8,
    untrained_pictures=2,
    calibration=8,
    untrained_calibration=2,
    stall_s=20.0,
    starts=False,
    clip_frames=20,
    total_s=62.0,
    all_paces=False,
)
FULL = Schedule(
    rounds=7,
    least_rounds=3,
    budget_s=26.0,
    block_s=0.4,
    end_s=0.6,
    paced_s=1.2,
    pictures=24,
    untrained_pictures=4,
    calibration=32,
    untrained_calibration=8,
    stall_s=60.0,
    starts=True,
)
