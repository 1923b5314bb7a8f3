"""Who gets the processor's cores."""

from __future__ import annotations


def leave_cores_to_the_net() -> None:
    """Let OpenCV work in the thread that calls it, for the whole process.

    Spreading a resize of half a millisecond over all cores makes the net's threads there wait for each other:
    on two cores that cost the live loop 5 % of its rate, and 12 % with a window (docs/log.md).
    """
    import cv2

    cv2.setNumThreads(1)
