"""Whether a figure changed from one run to another, judged by the values of their rounds.

A run has three to ten rounds, each of which gives one value of the figure; their order is of no matter. All
is done with logarithms, so that 10 % slower and 10 % faster are as far from nothing. The change is the ratio
of the medians, which one slow spell of a machine does not move. Its interval is Welch's, from the variances
of both runs' rounds (t quantiles at 95 %, degrees of freedom by Welch-Satterthwaite, rounded down), and
:data:`MEDIAN` times as wide, since a median of few values varies more than a mean. A bootstrap over three
rounds would be far too narrow (it knows no value but those three), ranks of three against three cannot get
below a false alarm in ten, and a spell makes this interval wide: a figure becomes unclear, not wrong.

What rounds cannot show is what differs between the two runs: a machine that was slower all along. So

- a change counts only from :data:`ALONE` on (10 %): that is what the same program does on a shared machine
- where both runs measured the machine's limits, from :data:`KNOWN` on (5 %), and only where it is there with
  and without setting it off against them; where only one says so it is unclear
- with fewer than three rounds, as a quick run on a slow machine has, from :data:`FEW` on (25 %)
- where the runs were made in turn, :func:`between_turns` compares within each turn, from :data:`PAIRED` on
  (3 %)

By simulation (``tests/benchmark/test_spread.py``) with rounds that spread by 2.5 % and one in twenty of which
is a slow spell, and with runs that are off by 4 %, a figure is called slower by mistake in at most 7 % of
comparisons without limits, 1.5 % with them or in turn. 10 % slower is found in about half of them with five
rounds, in 70 % in five turns and 90 % in eight; 20 % slower in 90 % with five rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_ROUNDS = 3
"""With fewer values a figure's spread is not known: only a large change counts."""
ALONE, KNOWN, PAIRED = 0.10, 0.05, 0.03
ROUNDING = 1e-3
"""Of logarithms: figures are written with a few digits, and 10 % slower is meant to count as 10 %."""
LARGEST = 700.0
"""A logarithm whose number is still finite."""
FEW, FEW_BUSY = 0.25, 1.0
"""The same for fewer than three rounds, on a quiet machine and on one that others took a part of."""
HIDDEN = 0.15
"""A figure whose spread could hide such a change is not called the same."""
MEDIAN = 1.2
"""Standard deviation of a median over that of a mean, for normal values: 1.16 for three, 1.25 for many."""
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Of Student's t, two-sided at 95 %, for 1, 2, ... degrees of freedom."""

WORSE, BETTER, SAME, UNCLEAR = "worse", "better", "same", "unclear"


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure of run B is to that of run A."""

    verdict: str
    """WORSE, BETTER, SAME (within the spread) or UNCLEAR."""
    ratio: float | None = None
    """B / A; None where there are no values."""
    low: float | None = None
    high: float | None = None
    """The ratio's interval; None where there are too few rounds."""
    machine: float | None = None
    """How many times as fast the machine itself was in B; None where that is not known."""
    relative: float | None = None
    """The ratio that would be left on a machine as fast as in A."""
    why: str = ""
    """Where the verdict is UNCLEAR, the reason."""


def between_runs(
    a: Sequence[float],
    b: Sequence[float],
    *,
    less_is_better: bool,
    machine: float | None = None,
    busy: bool = False,
) -> Change:
    """Compare values of two runs' rounds. ``machine`` is the ratio of the limits, B / A, where known.

    ``busy`` says that others took much of the machine; it matters where rounds are too few to show it.
    """
    if (extreme := _unlike_any_ratio(a, b, less_is_better)) is not None:
        return extreme
    if machine in (None, 1.0) and list(a) == list(b):  # one and the same run
        return Change(SAME, 1.0, machine=machine)
    logs_a, logs_b = ([math.log(value) for value in values] for values in (a, b))
    change = statistics.median(logs_b) - statistics.median(logs_a)
    if few := min(len(a), len(b)) < LEAST_ROUNDS:
        half, enough = 0.0, FEW_BUSY if busy else FEW
    else:
        half, enough = _welch(logs_a, logs_b), ALONE if machine is None else KNOWN
    least = math.log1p(enough)
    sign = 1 if less_is_better else -1
    found, why = _verdict(sign * change, half, least)
    shift = 0.0
    if machine is not None:
        shift = sign * math.log(machine)
        found, why = _agreed((found, why), _verdict(sign * (change + shift), half, least), machine)
    if few and (found == SAME or why == LITTLE):  # one round's calls say nothing of another minute
        found, why = UNCLEAR, f"fewer than {LEAST_ROUNDS} rounds, so that it counts from {enough:.0%} on"
        why = why.replace("%", " %")
    return Change(
        found,
        _ratio(change),
        None if few else _ratio(change - half),
        None if few else _ratio(change + half),
        machine,
        None if machine is None else _ratio(change + shift),
        why,
    )


def between_values(
    a: float,
    b: float,
    *,
    less_is_better: bool,
    least: float = ALONE,
    ranges: tuple[tuple[float, float], tuple[float, float]] | None = None,
    machine: float | None = None,
) -> Change:
    """Compare two values that no rounds tell more of. ``least`` is the change that counts.

    ``ranges`` are what the two runs say of least and most, where both do: what changed while they overlap is
    unclear.
    """
    if (extreme := _unlike_any_ratio([a], [b], less_is_better)) is not None:
        return extreme
    change = math.log(b) - math.log(a)
    sign, smallest = 1 if less_is_better else -1, math.log1p(least)
    ends, half = None, 0.0
    if ranges is not None and min(*ranges[0], *ranges[1]) > 0:
        ends = tuple(math.log(ranges[1][end]) - math.log(ranges[0][1 - end]) for end in (0, 1))
        half = abs(change) if ends[0] <= 0 <= ends[1] else 0.0
    found, why = _verdict(sign * change, half, smallest)
    relative = None
    if machine is not None:
        relative = change + sign * math.log(machine)
        found, why = _agreed((found, why), _verdict(sign * relative, half, smallest), machine)
    if why in (WIDE, LITTLE) and ends is not None:
        why = OVERLAP if half else LITTLE
    elif why == LITTLE:
        why = f"its spread is not known, so that it counts from {least:.0%} on".replace("%", " %")
    return Change(
        found,
        _ratio(change),
        None if ends is None else _ratio(ends[0]),
        None if ends is None else _ratio(ends[1]),
        machine,
        None if relative is None else _ratio(relative),
        why,
    )


def between_turns(a: Sequence[float], b: Sequence[float], *, less_is_better: bool) -> Change:
    """Compare values of runs made in turn: a[i] and b[i] belong together, whatever happened between."""
    if (extreme := _unlike_any_ratio(a, b, less_is_better)) is not None:
        return extreme
    logs = [math.log(after / before) for before, after in zip(a, b, strict=True)]
    change = statistics.median(logs)
    if len(logs) < LEAST_ROUNDS:
        return Change(UNCLEAR, _ratio(change), why=f"fewer than {LEAST_ROUNDS} turns")
    half = MEDIAN * _quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    found, why = _verdict(change if less_is_better else -change, half, math.log1p(PAIRED))
    return Change(found, _ratio(change), _ratio(change - half), _ratio(change + half), why=why)


WIDE = "the rounds spread too far; measure with more of them"


OVERLAP = "what the two runs say of least and most overlaps"
LITTLE = "more than the rounds spread, but less than runs of the same program may differ by"
Verdict = tuple[str, str]
"""And why it is UNCLEAR; empty for others."""


def _verdict(loss: float, half: float, least: float) -> Verdict:
    """Of the logarithm of how many times as bad B is, within ``half`` up and down.

    A change that is large enough and may be chance is unclear; so is one from :data:`KNOWN` on that is no
    chance and not large enough, and a spread that could hide :data:`HIDDEN`.
    """
    size = abs(loss) + ROUNDING
    if abs(loss) > half and size > least:
        return (WORSE if loss > 0 else BETTER), ""
    if size > least or half > math.log1p(HIDDEN):
        return UNCLEAR, WIDE
    return (UNCLEAR, LITTLE) if abs(loss) > half and size > math.log1p(KNOWN) else (SAME, "")


def _agreed(found: Verdict, relative: Verdict, machine: float) -> Verdict:
    """The verdict of the two with and without the machine's own change set off, and why it is unclear."""
    if found[0] == relative[0]:
        return found
    if {found[0], relative[0]} & {WORSE, BETTER}:
        return UNCLEAR, machines_own(machine)
    return SAME, ""


def _ratio(log: float) -> float:
    """Of a logarithm; of figures that no machine has, infinite."""
    return math.exp(log) if log < LARGEST else math.inf


def machines_own(machine: float) -> str:
    """Why a change that the machine's own explains is unclear; ``machine`` as in :class:`Change`."""
    pace = "slower" if machine < 1 else "faster"
    return f"the machine itself was {abs(machine - 1):.0%} {pace}".replace("%", " %")


def _welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Half the width of the interval of a difference of medians."""
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (a, b)]
    squared = sum(part for part, _ in parts)
    if squared == 0:
        return 0.0
    freedom = squared**2 / sum(part**2 / degrees for part, degrees in parts)
    return MEDIAN * _quantile(int(freedom)) * math.sqrt(squared)


def _quantile(freedom: int) -> float:
    return T_QUANTILES[min(max(freedom, 1), len(T_QUANTILES)) - 1]


def _unlike_any_ratio(a: Sequence[float], b: Sequence[float], less_is_better: bool) -> Change | None:
    """The verdict where there are no values, or zeros among them, which have no logarithm."""
    if not a or not b:
        return Change(UNCLEAR, why="not measured in both")
    if min(*a, *b) > 0:
        return None
    before, after = statistics.median(a), statistics.median(b)
    if min(a) > 0 >= max(b):  # it came to a standstill, or costs nothing any more
        return Change(BETTER if less_is_better else WORSE, after / before)
    if max(a) <= 0 < min(b):
        return Change(WORSE if less_is_better else BETTER)
    return Change(SAME if before == after else UNCLEAR, why="" if before == after else "zeros in some rounds")
