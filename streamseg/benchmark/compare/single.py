"""Figures of a row that have one value and no spread: what change of each counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamseg.benchmark.compare.spread import (
    BETTER,
    KNOWN,
    LEAST_ROUNDS,
    SAME,
    UNCLEAR,
    WORSE,
    Change,
    machines_own,
)
from streamseg.benchmark.rows import Row
from streamseg.engines.manifest import PRECISIONS

BYTES = 0.05
"""Of a size or a peak."""
SHARE_OF_LIMIT = 0.10
"""Relative, where a run does not say how far its rounds spread; half of it where they are apart."""
DICE = 0.005
HELD, FAILING = 0.02, 0.10
"""Share of frames: where one run dropped none or was in time with all, little counts; where both failed, how
many they failed depends on the machine's pace."""
CHANCE = 3.0
"""Standard errors by which shares of few frames must differ; neighbours share their fate, so not two."""
PRECISION = 0.01


@dataclass(frozen=True, slots=True)
class Single:
    """One value: None where it was not measured."""

    name: str
    value: float | None
    kind: str
    """``bytes``, ``dice``, ``precision``, ``limit``, ``lost`` or ``kept`` (shares of frames), ``holds``."""
    count: int | None = None
    """Of how many frames it is a share, or how many rounds it is from; None where that is of no matter."""
    spread: tuple[float, float] | None = None
    """Least and most of the rounds, where known."""


def singles(row: Row) -> dict[str, Single]:
    """A row's figures of one value, by name."""
    return {found.name: found for found in _found(row)}


def _found(row: Row) -> Iterator[Single]:
    for name, kind in (("dice", "dice"), ("mask_agreement", "dice")):
        if name in row:
            yield Single(name, number(row[name]), kind)
    for name in ("model_bytes", "peak_host_bytes", "peak_gpu_bytes"):
        if name in row:
            yield Single(name, number(row[name]), "bytes")
    if "precision_found" in row and isinstance(asked := row.get("precision"), str):
        yield Single(f"computes in {asked}", _share_in(asked.lower(), row["precision_found"]), "precision")
    if "limit_share" in row:
        spread = row.get("limit_share_spread")
        ends = [number(spread.get(end)) for end in ("min", "max")] if isinstance(spread, Mapping) else [None]
        known = None if None in ends else (ends[0] or 0.0, ends[-1] or 0.0)
        counts = [len(values) for values in row["rounds"].values() if isinstance(values, list)]
        yield Single("limit_share", number(row["limit_share"]), "limit", max(counts, default=None), known)
    yield from _frames("", row)
    end_to_end = row.get("end_to_end")
    if isinstance(end_to_end, Mapping):
        yield from _frames("end to end ", end_to_end)
    paced = row.get("paced")
    for pace in paced if isinstance(paced, list) else ():
        if isinstance(pace, Mapping):
            yield from _frames(f"at {pace.get('fps')} fps ", pace)


def _share_in(asked: str, found: object) -> float | None:
    """What share computes in the precision that was asked for; others may name the one that they found."""
    if isinstance(found, Mapping):
        return number(found.get(asked, 0.0))
    return float(found.lower() == asked) if isinstance(found, str) and found.lower() in PRECISIONS else None


def _frames(prefix: str, counts: Mapping[str, Any]) -> Iterator[Single]:
    """Shares of frames, and what of promises is held."""
    offered, dropped = number(counts.get("offered")), number(counts.get("dropped"))
    if dropped is not None and offered:
        yield Single(f"{prefix}dropped", dropped / offered, "lost", int(offered))
    if "within_budget" in counts:
        kept = number(counts["within_budget"])
        yield Single(
            f"{prefix}within_budget", kept, "kept", int(number(counts.get("processed")) or 0) or None
        )
    for name, value in counts.items():
        if name.startswith("holds_") and isinstance(value, bool):
            yield Single(f"{prefix}{name}", float(value), "holds")


def change_of(a: Single, b: Single, machine: float | None = None) -> Change:
    """How B's value is to A's. ``machine`` is how many times as fast the machine itself was in B, if known:
    frames that come late or are dropped on a slower one need not be the program's fault.
    """
    change = _change(a, b)
    if machine is not None and a.kind in ("lost", "kept", "holds"):
        slower, faster = machine < 1 / (1 + KNOWN), machine > 1 + KNOWN
        if (change.verdict == WORSE and slower) or (change.verdict == BETTER and faster):
            return replace(change, verdict=UNCLEAR, why=machines_own(machine))
    return change


def _change(a: Single, b: Single) -> Change:
    if a.value is None or b.value is None:
        which = "in neither" if a.value == b.value else "in A" if a.value is None else "in B"
        return Change(SAME if a.value == b.value else UNCLEAR, why=f"not measured {which}")
    ratio = b.value / a.value if a.value > 0 else None
    gain = a.value - b.value if a.kind in ("bytes", "lost") else b.value - a.value
    if abs(gain) <= _least(a, b, a.value, b.value):
        return Change(SAME, ratio)
    if a.kind == "limit" and any(one.count is not None and one.count < LEAST_ROUNDS for one in (a, b)):
        return Change(UNCLEAR, ratio, why=f"fewer than {LEAST_ROUNDS} rounds")
    return Change(BETTER if gain > 0 else WORSE, ratio)


def _least(a: Single, b: Single, before: float, after: float) -> float:
    """The largest difference of the values that does not count."""
    if a.kind == "bytes":
        return BYTES * before
    if a.kind == "limit":
        if a.spread is None or b.spread is None:
            return SHARE_OF_LIMIT * before
        apart = a.spread[1] < b.spread[0] or b.spread[1] < a.spread[0]
        return SHARE_OF_LIMIT / 2 * before if apart else math.inf
    if a.kind in ("lost", "kept"):
        whole = 0.0 if a.kind == "lost" else 1.0
        return max(HELD if whole in (before, after) else FAILING, CHANCE * _standard_error(a, b))
    return {"dice": DICE, "precision": PRECISION, "holds": 0.5}[a.kind]


def _standard_error(a: Single, b: Single) -> float:
    """Of the difference of two shares of frames, were both the same; 0 where their numbers are not known."""
    if not a.count or not b.count or a.value is None or b.value is None:
        return 0.0
    both = a.count + b.count
    share = (a.value * a.count + b.value * b.count + 1) / (both + 2)  # none of few is not none of all
    return math.sqrt(share * (1 - share) * (1 / a.count + 1 / b.count))


def number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return None
    return found if math.isfinite(found) else None
