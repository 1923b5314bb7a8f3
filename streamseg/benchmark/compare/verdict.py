"""Verdicts on one figure of two runs: by its rounds, by the ratio or difference of two values, by frames.

A run has three to ten rounds, each of which gives one value of the figure; their order does not matter.
Ratios are judged by logarithms, so that 10 % slower and 10 % faster are as far from no change. The change is
the ratio of the medians, which one slow spell of a machine does not move. Its interval is Welch's, from the
variances of both runs' rounds (t quantiles at 95 %, degrees of freedom by Welch-Satterthwaite, rounded down),
and :data:`MEDIAN` times as wide, since a median of few values varies more than a mean. A bootstrap over three
rounds would be far too narrow (it knows no value but those three), and ranks of three against three cannot
get below a false alarm in ten. A slow spell makes this interval wide: the figure becomes unclear, not worse.

Rounds cannot show what differs between two runs, such as a machine that was slower all along. So

- a change counts from :data:`ALONE` (10 %): the same program differs by that much on a shared machine
- if both runs measured the machine's limits, from :data:`KNOWN` (5 %), and only if it is there both with and
  without the machine's own change set off; if only one of the two says so it is unclear
- with fewer than three rounds, as a quick run on a slow machine has, from :data:`FEW` (25 %)

By simulation (``tests/benchmark/compare/test_verdict.py``), with rounds that spread by 2.5 % of which one in
twenty is a slow spell, and with runs that are off by 4 %, a figure is called slower by mistake in at most 7 %
of comparisons without limits and 1.5 % with them. 10 % slower is found in about half of them with five
rounds, 20 % slower in 90 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamseg.benchmark.rows.figures import Figure
from streamseg.benchmark.rows.run import Spread

MIN_ROUNDS = 3
"""With fewer values the spread of a figure is not known: only a large change counts."""
ALONE, KNOWN = 0.10, 0.05
ROUNDING = 1e-3
"""Of logarithms: figures are written with a few digits, and 10 % slower is meant to count as 10 %."""
MAX_LOG = 700.0
"""A logarithm whose number is still finite."""
FEW, FEW_BUSY = 0.25, 1.0
"""The change that counts with fewer than three rounds, on a quiet machine and on a busy one."""
HIDDEN = 0.15
"""A figure whose spread could hide such a change is not called the same."""
MEDIAN = 1.2
"""Standard deviation of a median over that of a mean, for normal values: 1.16 for three, 1.25 for many."""
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Of Student's t, two-sided at 95 %, for 1, 2, ... degrees of freedom."""
HELD, FAILING = 0.02, 0.10
"""Shares of frames that count: if one run dropped none or was in time with all, and if both failed; how many
they then failed depends on the machine's pace."""
CHANCE = 3.0
"""Standard errors by which shares of few frames must differ: neighbours share their fate, so not two."""

WORSE, BETTER, SAME, UNCLEAR = "worse", "better", "same", "unclear"
WIDE = "the rounds spread too far; measure with more of them"
LITTLE = "more than the rounds spread, but less than runs of the same program may differ by"

Verdict = tuple[str, str]
"""And why it is UNCLEAR; empty for others."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure of run B compares with that of run A."""

    verdict: str
    """WORSE, BETTER, SAME (within the spread) or UNCLEAR."""
    ratio: float | None = None
    """B / A; None if there are no values."""
    low: float | None = None
    high: float | None = None
    """The ratio's interval; None if there are too few rounds."""
    machine: float | None = None
    """How many times as fast the machine itself was in B; None if that is not known."""
    relative: float | None = None
    """The ratio that would be left on a machine as fast as in A."""
    why: str = ""
    """Why the verdict is UNCLEAR."""


def by_rounds(
    a: Sequence[float],
    b: Sequence[float],
    *,
    less_is_better: bool,
    machine: float | None = None,
    busy: bool = False,
) -> Change:
    """Compare the values of two runs' rounds.

    ``machine`` is the ratio of the machine's limits, B / A, if known. ``busy`` says that other processes took
    much of the machine; it matters if the rounds are too few to show it.
    """
    if (extreme := _without_ratio(a, b, less_is_better)) is not None:
        return extreme
    if machine in (None, 1.0) and list(a) == list(b):  # one and the same run
        return Change(SAME, 1.0, machine=machine)
    logs_a, logs_b = ([math.log(value) for value in values] for values in (a, b))
    change = statistics.median(logs_b) - statistics.median(logs_a)
    if min(len(a), len(b)) >= MIN_ROUNDS:
        half = _welch(logs_a, logs_b)
        found = _judged(change, half, ALONE if machine is None else KNOWN, less_is_better, machine)
        return replace(found, low=_ratio(change - half), high=_ratio(change + half))
    enough = FEW_BUSY if busy else FEW
    found = _judged(change, 0.0, enough, less_is_better, machine)
    if found.verdict == SAME or found.why == LITTLE:  # one round's calls say nothing of another minute
        why = f"fewer than {MIN_ROUNDS} rounds, so that it counts from {100 * enough:.0f} % on"
        return replace(found, verdict=UNCLEAR, why=why)
    return found


def by_ratio(a: Figure, b: Figure, machine: float | None = None) -> Change:
    """Compare two rates or times without rounds; ``machine`` as in :func:`by_rounds`."""
    if (unknown := _not_measured(a, b)) is not None:
        return unknown
    before, after = a.value or 0.0, b.value or 0.0
    if (extreme := _without_ratio([before], [after], a.less_is_better)) is not None:
        return extreme
    change = math.log(after) - math.log(before)
    found = _judged(change, 0.0, a.tolerance, a.less_is_better, machine)
    if found.why == LITTLE:
        why = f"its spread is not known, so that it counts from {100 * a.tolerance:.0f} % on"
        return replace(found, why=why)
    return found


def by_value(a: Figure, b: Figure) -> Change:
    """Compare two values by their difference."""
    if (unknown := _not_measured(a, b)) is not None:
        return unknown
    before, after = a.value or 0.0, b.value or 0.0
    least = a.tolerance * (before if a.relative else 1.0)
    if (apart := _apart(a.spread, b.spread)) is not None:
        least = least / 2 if apart else math.inf
    ratio = after / before if before > 0 else None
    gain = before - after if a.less_is_better else after - before
    if abs(gain) <= least:
        return Change(SAME, ratio)
    if any(one.count is not None and one.count < MIN_ROUNDS for one in (a, b)):
        return Change(UNCLEAR, ratio, why=f"fewer than {MIN_ROUNDS} rounds")
    return Change(BETTER if gain > 0 else WORSE, ratio)


def by_frames(a: Figure, b: Figure, machine: float | None = None) -> Change:
    """Compare two shares of frames.

    ``machine`` is how many times as fast the machine itself was in B, if known: frames that come late or are
    dropped on a slower one need not be the program's fault.
    """
    if (unknown := _not_measured(a, b)) is not None:
        return unknown
    before, after = a.value or 0.0, b.value or 0.0
    ratio = after / before if before > 0 else None
    gain = before - after if a.less_is_better else after - before
    whole = 0.0 if a.less_is_better else 1.0
    tolerance = HELD if whole in (before, after) else FAILING
    if abs(gain) <= max(tolerance, CHANCE * _standard_error(a, b)):
        return Change(SAME, ratio)
    verdict = BETTER if gain > 0 else WORSE
    if machine is not None and (machine > 1 + KNOWN if gain > 0 else machine < 1 / (1 + KNOWN)):
        return Change(UNCLEAR, ratio, why=_machines_own(machine))
    return Change(verdict, ratio)


def _apart(a: Spread | None, b: Spread | None) -> bool | None:
    """Whether the rounds of two runs do not overlap; None if either does not say how far they spread."""
    if a is None or b is None or None in (a.min, a.max, b.min, b.max):
        return None
    return bool(a.max < b.min or b.max < a.min)  # type: ignore[operator]


def _not_measured(a: Figure, b: Figure) -> Change | None:
    if a.value is None and b.value is None:
        return Change(SAME, why="not measured in neither")
    if a.value is None or b.value is None:
        return Change(UNCLEAR, why=f"not measured in {'A' if a.value is None else 'B'}")
    return None


def _judged(
    change: float, half: float, tolerance: float, less_is_better: bool, machine: float | None
) -> Change:
    """Judge the logarithm of a ratio, within ``half`` up and down, with and without the machine's change."""
    sign, least = 1 if less_is_better else -1, math.log1p(tolerance)
    found = _verdict(sign * change, half, least)
    if machine is None:
        return Change(found[0], _ratio(change), why=found[1])
    relative = change + sign * math.log(machine)
    found = _agreed(found, _verdict(sign * relative, half, least), machine)
    return Change(found[0], _ratio(change), machine=machine, relative=_ratio(relative), why=found[1])


def _verdict(loss: float, half: float, least: float) -> Verdict:
    """Of the logarithm of how many times as bad B is, within ``half`` up and down.

    A change that is large enough and may be chance is unclear; so is one from :data:`KNOWN` that is not
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
        return UNCLEAR, _machines_own(machine)
    return SAME, ""


def _machines_own(machine: float) -> str:
    """Why a change that the machine's own explains is unclear; ``machine`` as in :class:`Change`."""
    return f"the machine itself was {100 * abs(machine - 1):.0f} % {'slower' if machine < 1 else 'faster'}"


def _welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Half the width of the interval of a difference of medians."""
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (a, b)]
    squared = sum(part for part, _ in parts)
    if squared == 0:
        return 0.0
    freedom = squared**2 / sum(part**2 / degrees for part, degrees in parts)
    quantile = T_QUANTILES[min(max(int(freedom), 1), len(T_QUANTILES)) - 1]
    return MEDIAN * quantile * math.sqrt(squared)


def _ratio(log: float) -> float:
    """Of a logarithm; infinite for figures that no machine has."""
    return math.exp(log) if log < MAX_LOG else math.inf


def _without_ratio(a: Sequence[float], b: Sequence[float], less_is_better: bool) -> Change | None:
    """The verdict if there are no values, or zeros among them, which have no logarithm."""
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


def _standard_error(a: Figure, b: Figure) -> float:
    """Of the difference of two shares of frames, were both the same; 0 if their numbers are not known."""
    if not a.count or not b.count or a.value is None or b.value is None:
        return 0.0
    both = a.count + b.count
    share = (a.value * a.count + b.value * b.count + 1) / (both + 2)  # none of few is not none of all
    return math.sqrt(share * (1 - share) * (1 / a.count + 1 / b.count))
