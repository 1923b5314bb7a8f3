"""Estimates when a frame was sent from its time stamp: an old one that arrives late must not pass as new.

After a stall of the network or the server the frames of the meantime arrive all at once. Their arrival says
nothing of their age, but the sender's own times do: a frame that came 900 ms later than its time stamp lets
expect, measured by those that came most promptly, is 900 ms old. How old the promptest are is unknown.

The sender's clock is no better than the sender, so three things are told apart:

* **A pace that differs** from the beginning of a stream, and steadily, is the clock's fault: encoders that
  stamp at their nominal rate and deliver fewer frames, PAL played 4 % faster, stamps that stand still,
  servers that count milliseconds. It is measured, and taken out.
* **A jump without silence**: stamps leap while frames go on arriving at their rate. That is a step of the
  clock, or one bad stamp, and says nothing of the frames' age.
* **Silence, then frames with stamps from the time of the silence**: a real backlog. It stays old.

A sender's own reports (RTCP) say how fast its time stamps run against its wall clock, which, unlike a video
clock, is right to a hundredth of a per cent. So they tell a clock that drifts from a delay that grows or
stays: where they come, next to nothing has to be forgiven. They are not used for more. What the wall clock
shows may be wrong by years, so that it does not say how old a frame is, and it may be set.

A relay that stores frames since the last key frame pours them out when a stream begins, so there is no
silence to measure them by. The age of a stream's first frames is unknown until some have come at their own
rate. Those that rush in before that, each closer to the one before than its stamp says, count as old; so do
later ones of the beginning, once they have rushed in by more than networks gather.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

FORGIVEN = 0.01
"""The sender's clock may drift from ours by this much unnoticed. A delay that never ends is forgotten at the
same pace, 10 ms a second."""
FORGIVEN_TOLD = 0.0005
"""The same where the sender's reports tell its pace."""
TOLD_NS, TOLD_WITHIN = 4_000_000_000, 0.01
"""Reports over this time tell the pace, if that is near the present one: some servers' are wrong."""
_STEADY = 0.002
"""The pace that reports tell varies by less, unless the sender's wall clock has been set."""
BLOCK_NS = 400_000_000
"""The pace is measured over blocks of at least this time, and of four intervals."""
MIN_BLOCKS, MAX_BLOCKS = 3, 60
SETTLING_NS = 10_000_000_000
"""Within this time of a stream's beginning a different pace is believed quickly, and frames that it made late
count as prompt. Later it takes :data:`LATER_BLOCKS`, and what is late stays late: a network that becomes too
slow for the stream looks the same."""
LATER_BLOCKS = 50
AGREEMENT = 0.06
"""Paces of blocks that agree differ from their median by no more than this part of it."""
JITTER_NS = 30_000_000
"""Arrivals vary by this much, so a pace is known to within this time in parts of the measured span."""
_STANDS_STILL = 1e-3
REFINED = 0.002
"""A pace that differs from the nominal one is measured again until it changes by less than this part."""
_FASTEST_NS, _FEW = 4_000_000, 3
"""No frames are closer together than this; stamps that say so of this many intervals mean nothing as yet."""
RUSH_AGE_NS = 1_000_000_000
"""What frames of unknown age count as while they rush in."""
_RUSH_NS = 250_000_000
"""Frames that came closer together than their stamps say, by this much in all, have rushed in."""
_PACED, _PACED_NS = 3, 100_000_000
"""This many intervals in a row at their own rate, or this time, show that frames come as they are made."""
_GATHERED = 10
"""A network that gathers frames has none in a row; this many intervals that took their time show the same."""
UNKNOWN_NS = 700_000_000
"""The age of frames is unknown for no longer than this."""
_MAX_INTERVAL_NS = 500_000_000
"""Frames are no farther apart; more between two stamps is a jump."""
_RECENT = 31


@dataclass(frozen=True, slots=True)
class _Point:
    """A frame's time in both clocks, jumps left out; and how late it was."""

    arrived_ns: int = 0
    sent_ns: int = 0
    late_ns: float = 0.0


@dataclass(frozen=True, slots=True)
class _Block:
    """The time from the promptest frame of one block to that of the next.

    The promptest, because a network such as Wi-Fi gathers frames: the others tell more of that than of the
    clock.
    """

    late_ns: float
    """How late the first one was."""
    arrived_ns: int
    sent_ns: int


class LatenessEstimator:
    """Estimates each frame's delay relative to the fastest frames seen so far."""

    def __init__(self) -> None:
        self.note = ""
        """What was found out about the sender's clock, one line; empty while it keeps time."""
        self.age_known = False
        """Whether frames come as they are made: until then they may have waited on the way."""
        self._counted = self._paced = self._paced_ns = 0
        self._last: tuple[int, int] | None = None
        self._began_ns = 0
        self._late_ns = 0.0
        self._rush_ns = 0.0
        self._pace = 1.0
        """Our time per unit of the sender's; 0 if the stamps stand still and mean nothing."""
        self._measured_ns = 0
        """The time over which the pace was measured."""
        self._forgiven = FORGIVEN
        self._reports: deque[tuple[int, int]] = deque(maxlen=_RECENT)
        """The sender's wall clock and time stamp of each, nanoseconds."""
        self._gaps: deque[int] = deque(maxlen=_RECENT)
        self._total = self._block_begin = self._mark = _Point()
        self._promptest: _Point | None = None
        self._intervals = 0
        self._blocks: deque[_Block] = deque(maxlen=MAX_BLOCKS)

    def captured_ns(self, sent_ns: int, arrived_ns: int) -> int:
        """When a frame would have arrived if it had come as promptly as the promptest: monotonic ns.

        ``sent_ns`` is its time in the sender's clock, from any origin. Never later than ``arrived_ns``.
        """
        if self._last is None:
            self._began_ns = arrived_ns
        else:
            self._advance(sent_ns - self._last[0], max(0, arrived_ns - self._last[1]), arrived_ns)
        self._last = sent_ns, arrived_ns
        unknown_ns = RUSH_AGE_NS if self.rushing else 0
        return arrived_ns - max(round(self._late_ns), unknown_ns)

    def take_report(self, wall_ns: int, sent_ns: int) -> None:
        """Take what the sender's wall clock showed at a time ``sent_ns`` of its stamps."""
        self._reports.append((wall_ns, sent_ns))
        told, latest = self._told(0), self._told(-2)
        if not (told and latest and abs(latest / told - 1) <= _STEADY):
            self._reports = deque([(wall_ns, sent_ns)], maxlen=_RECENT)  # a clock was set, or it is the first
        known = len(self._reports) > 2 and wall_ns - self._reports[0][0] >= TOLD_NS
        if known and told and self._pace and abs(told / self._pace - 1) <= TOLD_WITHIN:
            self._pace, self._forgiven = told, FORGIVEN_TOLD
        else:
            self._forgiven = FORGIVEN

    def _told(self, since: int) -> float:
        """The pace by the latest report and an earlier one; 0 if they do not tell."""
        if len(self._reports) < 2:
            return 0.0
        (wall_ns, sent_ns), (last_wall_ns, last_sent_ns) = self._reports[since], self._reports[-1]
        return (last_wall_ns - wall_ns) / (last_sent_ns - sent_ns) if last_sent_ns > sent_ns else 0.0

    @property
    def rushing(self) -> bool:
        """Whether the latest frames rushed in, so that their age is unknown."""
        return self._rush_ns > (_RUSH_NS if self.age_known else 0)

    def _advance(self, sent_ns: int, gap_ns: int, now_ns: int) -> None:
        """Take the time between two frames in the sender's clock and in ours."""
        usual_ns = median(self._gaps) if len(self._gaps) > 3 else 100_000_000
        self._gaps.append(gap_ns)
        if self._pace == 1 and not self._blocks and self._stamps_mean_nothing(sent_ns, gap_ns):
            self._pace, self._late_ns = 0.0, 0.0
        # More than frames out of display order, or the jitter of a network, would make it.
        leap_ns = max(4 * usual_ns, 80_000_000)
        expected_ns = sent_ns * self._pace
        growth_ns = gap_ns - expected_ns if self._pace else 0.0
        silent = gap_ns > leap_ns
        back = expected_ns < -leap_ns
        ahead = growth_ns < -(self._late_ns + leap_ns)
        settling = now_ns - self._began_ns < SETTLING_NS
        rushing = settling and 2 * gap_ns < expected_ns <= _MAX_INTERVAL_NS and growth_ns < -self._late_ns
        if rushing:
            self._rush_ns -= growth_ns + self._late_ns
        elif gap_ns > 0.8 * expected_ns:
            self._rush_ns /= 2  # not forgotten at once: with jitter not every frame of a rush comes early
        self._learn_age(gap_ns, expected_ns, now_ns)
        jumped = (back or ahead) and not rushing
        if jumped:
            self.note = "the sender's time stamps jumped; ages go on as before"
            growth_ns = -self._late_ns if ahead and not silent and self._late_ns > leap_ns else 0.0
        self._late_ns = max(0.0, self._late_ns + growth_ns - self._forgiven * gap_ns)
        if not jumped:
            self._take_interval(gap_ns, sent_ns, now_ns)

    def _stamps_mean_nothing(self, sent_ns: int, gap_ns: int) -> bool:
        """Whether a stream's first stamps stand still, or count in another unit: milliseconds, say."""
        count = self._counted + 1
        sent_ns, took_ns = self._total.sent_ns + sent_ns, self._total.arrived_ns + gap_ns
        return count >= _FEW and abs(sent_ns) < _FASTEST_NS * count and took_ns > 2 * _FASTEST_NS * count

    def _learn_age(self, gap_ns: int, expected_ns: float, now_ns: int) -> None:
        """Find out from one more interval whether frames come as they are made."""
        self._counted += 1
        early = 2 * gap_ns < expected_ns <= _MAX_INTERVAL_NS
        if early:
            self._paced = self._paced_ns = 0
        elif gap_ns > 0.8 * expected_ns:
            self._paced += 1
            self._paced_ns += round(max(0.0, expected_ns))
        took_ns = self._total.arrived_ns - self._total.sent_ns * self._pace
        gathered = not early and self._counted > _GATHERED and took_ns > -0.2 * self._total.arrived_ns
        self.age_known = (
            self.age_known
            or self._paced >= _PACED
            or self._paced_ns >= _PACED_NS
            or gathered
            or now_ns - self._began_ns > UNKNOWN_NS
        )

    def _take_interval(self, gap_ns: int, sent_ns: int, now_ns: int) -> None:
        """Add an interval to the present block, and end that if it is long enough."""
        total = _Point(self._total.arrived_ns + gap_ns, self._total.sent_ns + sent_ns, self._late_ns)
        self._total, self._intervals = total, self._intervals + 1
        best = self._promptest
        if best is None or total.arrived_ns - best.arrived_ns <= self._pace * (total.sent_ns - best.sent_ns):
            self._promptest = best = total
        if total.arrived_ns - self._block_begin.arrived_ns < BLOCK_NS or self._intervals < 4:
            return
        mark = self._mark
        if best.arrived_ns - mark.arrived_ns >= BLOCK_NS / 2:
            lasted_ns = best.arrived_ns - mark.arrived_ns
            self._blocks.append(_Block(mark.late_ns, lasted_ns, best.sent_ns - mark.sent_ns))
            self._mark = best
            self._measure_pace(now_ns)
        self._block_begin, self._promptest, self._intervals = total, None, 0

    def _measure_pace(self, now_ns: int) -> None:
        """Take another pace than the present one if the latest blocks agree on it."""
        if self._forgiven != FORGIVEN:
            return  # the sender's reports tell it
        blocks = self._agreeing()
        settling = now_ns - self._began_ns < SETTLING_NS
        if len(blocks) < (MIN_BLOCKS if settling else LATER_BLOCKS):
            return
        arrived_ns, sent_ns = sum(b.arrived_ns for b in blocks), sum(b.sent_ns for b in blocks)
        pace = 0.0 if sent_ns < _STANDS_STILL * arrived_ns else arrived_ns / sent_ns
        uncertain = 0.8 * FORGIVEN + JITTER_NS / arrived_ns
        odd = self._pace not in (0, 1)
        if settling and odd and arrived_ns > self._measured_ns:
            uncertain = REFINED  # the measure before may be off by more than is forgiven
        if pace and self._pace and abs(pace / self._pace - 1) <= uncertain:
            return
        if pace and self._pace > pace and blocks[0].late_ns > JITTER_NS:
            return  # frames come faster than they were sent: a backlog that is being worked off
        self._pace, self._measured_ns = pace, arrived_ns
        if settling:
            self._late_ns = min(self._late_ns, self._late_at(pace))
        if pace and not (odd and settling):
            self.note = f"the sender's clock runs {1 / pace:.3g} times as fast as ours; ages allow for it"
        elif not pace:
            self.note = "the sender's time stamps stand still; ages count from arrival"

    def _late_at(self, pace: float) -> float:
        """How late the frames of all blocks are together, had the pace been this one from the first on.

        Blocks that do not agree on it count too: a busy sender's first ones held its frames up for a moment,
        and what the wrong pace added to their lateness would stay for good.
        """
        late_ns = self._blocks[0].late_ns
        for block in self._blocks if pace else ():
            growth_ns = block.arrived_ns * (1 - FORGIVEN) - block.sent_ns * pace
            late_ns = max(0.0, late_ns + growth_ns)
        return late_ns

    def _agreeing(self) -> list[_Block]:
        """The latest blocks whose paces agree, oldest first."""
        found: list[_Block] = []
        for block in reversed(self._blocks):
            together = [*found, block]
            paces = [b.sent_ns / b.arrived_ns for b in together]
            middle = median(paces)
            if any(abs(pace - middle) > AGREEMENT * abs(middle) + _STANDS_STILL for pace in paces):
                break
            found = together
        return found[::-1]
