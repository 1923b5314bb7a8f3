"""How long and how often the nets' benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamseg.benchmark.rows.run import NOT_A_KEY, Record
from streamseg.benchmark.time_limit import QUICK_S

MAX_FRAMES = 256
"""Of one end-to-end run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Record):
    """How long and how often a net at one input shape is measured; its JSON is the ``regime`` of the rows."""

    rounds: int
    least_rounds: int
    budget_seconds: float
    """No round begins that would end later, after the first ``least_rounds``."""
    warmup_calls: int = 2
    """Calls of each variant that do not count, before the first round."""
    lead_in_calls: int = 1
    """Calls before each block that do not count."""
    lead_in_below_seconds: float = 1.0
    """Slower calls get no lead-in."""
    block_seconds: float
    """Of engine calls, in each round; at least one call."""
    end_to_end_seconds: float
    """Of end-to-end frames, in each round; at least ``end_to_end_least_frames``."""
    end_to_end_least_frames: int = 4
    paces_fps: tuple[float, ...] = (30.0, 60.0)
    """Frames per second of the live runs, rising."""
    paced_seconds: float
    """Of each live run."""
    all_paces: bool = True
    """False leaves out the paces above one that is too fast for the engine's calls alone."""
    calibration_frames: int
    """Phantoms for INT8, if an engine has to be built."""
    untrained_calibration_frames: int
    """The same for random weights, whose answers mean nothing; their speed does not depend on it."""
    total_seconds: float | None = None
    """If a run is to end by then, nets get fewer rounds and images, and at the end no live runs; what finds
    no time at all is left out. Of the kernels that show the machine's limits only the fastest are measured
    after the first net."""
    stall_seconds: float
    """A block, or any other step, that takes longer is given up."""
    images: int = field(metadata=NOT_A_KEY)
    """Phantoms for the Dice of trained nets if there are no labelled images."""
    untrained_images: int = field(metadata=NOT_A_KEY)
    """Images on which random weights are compared with FP32."""
    starts: bool = field(metadata=NOT_A_KEY)
    """Start each variant in a process of its own, for the warm start and the memory."""
    clip_frames: int = field(default=64, metadata=NOT_A_KEY)
    """Of the clip, in memory."""


QUICK = Schedule(
    rounds=3,
    least_rounds=1,
    budget_seconds=9.0,
    block_seconds=0.15,
    end_to_end_seconds=0.25,
    paced_seconds=0.4,
    images=8,
    untrained_images=2,
    calibration_frames=8,
    untrained_calibration_frames=2,
    stall_seconds=20.0,
    starts=False,
    clip_frames=20,
    total_seconds=QUICK_S,
    all_paces=False,
)
FULL = Schedule(
    rounds=7,
    least_rounds=3,
    budget_seconds=26.0,
    block_seconds=0.4,
    end_to_end_seconds=0.6,
    paced_seconds=1.2,
    images=24,
    untrained_images=4,
    calibration_frames=32,
    untrained_calibration_frames=8,
    stall_seconds=60.0,
    starts=True,
)
