"""Who looks on while a run trains, and how far it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from streamseg.training.run_folder import History


@dataclass(frozen=True)
class Watch:
    """Who looks on, and may ask the run to stop."""

    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None
    """Called now and then with the steps done, all steps, and the latest loss."""
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None
    """Called with each line of the log."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked before each step; the run then saves itself and ends. For runs of one process."""
    on_start: Callable[[int, int], None] = lambda done, steps: None
    """Called before the first step with the steps that an earlier, broken run has done, and all steps."""


@dataclass(frozen=True)
class Finished:
    """A run as far as it came."""

    history: History
    finished: bool
    """False where it was asked to stop before its end."""
    net: nn.Module
    """The weights to use, in eval mode."""
