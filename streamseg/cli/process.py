"""Settings of the whole process, for commands that segment video for long and fast."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8
"""Of glibc's ``mallopt``."""


def settle_in() -> None:
    """Leave the cores to the net, and keep memory flat. Call before threads are started.

    - OpenCV works in the thread that calls it. Spreading a resize of half a millisecond over all cores makes
      the net's threads there wait for each other: on two cores that cost the live loop 5 % of its rate, and
      12 % with a window (docs/log.md).
    - glibc keeps two pools of memory. By itself it takes up to eight a core, and pictures that one thread
      makes and another lets go then leave holes in all of them: memory crept up for many minutes.
    """
    import cv2

    cv2.setNumThreads(1)
    with contextlib.suppress(AttributeError, OSError):  # another C library has no such thing
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
