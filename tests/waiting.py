"""Waiting for a condition, with patience for busy machines."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0
"""Machines are busy at times; a duration is not a test unless it says so."""


def wait_for(found: Callable[[], T], what: str = "it", patience_s: float = PATIENCE_S) -> T:
    """Call ``found`` until its answer is true, and return that; fails after ``patience_s`` seconds."""
    ends = time.monotonic() + patience_s
    while not (answer := found()):
        assert time.monotonic() < ends, f"{what} did not come within {patience_s:g} s"
        time.sleep(0.01)
    return answer
