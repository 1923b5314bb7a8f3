"""Learning rates over a run."""

from __future__ import annotations

import math

from streamseg.training.config import TrainConfig

WARM_STEPS = 200
"""Longest rise of the schedules that rise."""


def rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of step 0..steps-1.

    ``constant``; ``warm``: up from a 25th in the first tenth (at most 200 steps), then constant;
    ``one-cycle``: the same, then a half cosine to 0.
    """
    peak = config.learning_rate
    if config.schedule == "constant":
        return peak
    rise = min(max(1, steps // 10), WARM_STEPS)
    if step < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * step / rise)
    if config.schedule == "warm":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
