"""When a picture was taken, as far as a stream tells: an old one that comes late must not pass as new.

After a stall of the network or the server the pictures of the meantime arrive all at once. Their arrival says
nothing of their age, but the sender's own times do: a picture that came 900 ms later than its time stamp lets
expect, measured by those that came most promptly, is 900 ms old. How old the promptest are is unknown.
"""

from __future__ import annotations

FORGIVEN = 0.01
"""Sender's and our clock may drift apart by this much: encoders that count pictures at their nominal rate do.
A delay that never ends is forgotten at the same pace, 10 ms a second."""
JUMP_NS = 1_000_000_000
"""Time stamps that fall back by more begin anew; smaller steps back are pictures out of display order."""


class Promptness:
    """Knows how promptly pictures can come, and so how late each one is."""

    def __init__(self) -> None:
        self._base_ns: float | None = None
        self._last: tuple[int, int] = 0, 0

    def captured_ns(self, sent_ns: int, arrived_ns: int) -> int:
        """When a picture would have arrived, had it come as promptly as the promptest: monotonic ns.

        ``sent_ns`` is its time in the sender's clock, from any origin. Never later than ``arrived_ns``.
        """
        delay_ns = arrived_ns - sent_ns
        last_sent_ns, last_arrived_ns = self._last
        if self._base_ns is None or sent_ns < last_sent_ns - JUMP_NS:
            self._base_ns = delay_ns
        self._base_ns = min(delay_ns, self._base_ns + FORGIVEN * max(0, arrived_ns - last_arrived_ns))
        self._last = sent_ns, arrived_ns
        return arrived_ns - round(delay_ns - self._base_ns)
