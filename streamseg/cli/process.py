"""Settings of the whole process, for commands that segment video fast."""

from __future__ import annotations


def settle_in() -> None:
    """Leave the cores to the net: OpenCV works in the thread that calls it.

    Spreading a resize of half a millisecond over all cores makes the net's threads there wait for each other:
    on two cores that cost the live loop 5 % of its rate, and 12 % with a window (docs/log.md).
    """
    import cv2

    cv2.setNumThreads(1)
