"""The figures of a fault, computed from what the display showed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.live_faults.scene import Counter, Glass, Seen
from streamseg.core.types import State

_ADDRESS = re.compile(r"rtsp://\S+ |127\.0\.0\.1:\d+ ")
_NUMBER = re.compile(r"[\d.]+")
MAX_STATES = 9
"""Changes of state listed in a row; more are counted."""

SETTLED_S = 2.0
"""Under a fault that stays, the right state is back once it lasts for this time."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Monotonic nanoseconds: the fault's beginning and end, and the first outline after it, if any."""

    began: int
    ended: int
    back: int | None
    stopped: int
    stays: bool = False
    """The fault goes on until ``ended``, and ``back`` is when the right state came that stayed."""

    @property
    def until(self) -> int:
        """The end of what is counted."""
        return self.ended if self.stays else self.back or self.stopped


def account(
    glass: Glass,
    counter: Counter,
    moments: Moments,
    budget_s: float,
    sent_ns: dict[int, int],
    *,
    fps: float,
) -> dict[str, Any]:
    """The figures of one fault; times in seconds or milliseconds as their names say."""
    until = moments.until
    counts_from = moments.began if moments.stays else moments.ended
    offered = between(counter.offered_ns, moments.began, until)
    segmented = between(counter.segmented_ns, moments.began, until)
    oldest_ms = max((age / 1e6 for age in outline_ages(glass.seen, moments.stopped)), default=None)
    true = true_ages(glass.seen, sent_ns, moments.stopped)
    return {
        "lasted_s": (moments.ended - moments.began) / 1e9,
        "states": states(glass.seen, moments),
        "reasons": reasons(glass.seen, moments),
        "without_outline_s": longest_gap(glass.seen, moments.began, until),
        "recovered_s": None if moments.back is None else max(0.0, (moments.back - counts_from) / 1e9),
        "frames_lost": max(0, round((until - moments.began) / 1e9 * fps) - offered),
        "frames_not_segmented": max(0, offered - segmented),
        "oldest_outline_ms": oldest_ms,
        "past_budget": oldest_ms is not None and oldest_ms > budget_s * 1e3,
        "oldest_outline_by_its_own_clock_ms": max((age / 1e6 for age in true), default=None),
        "outlines": sum(seen.captured_ns is not None for seen in glass.seen),
        "outlines_on_another_frame": glass.wrong,
    }


def settled(seen: Sequence[Seen], right: State, began: int, ended: int) -> int | None:
    """When the right state came that stayed for :data:`SETTLED_S`; ``began`` if it was there already."""
    since: int | None = None
    for one, following in itertools.zip_longest(seen, seen[1:]):
        until = min(ended, following.at_ns if following else ended)
        if until <= began:
            continue
        if not one.is_right(right):
            since = None
            continue
        since = max(began, one.at_ns) if since is None else since
        if until - since >= SETTLED_S * 1e9:
            return since
    return None


def misplaced_s(seen: Sequence[Seen], stopped: int) -> float:
    """Seconds for which the display showed the answer for a region that was not the image's."""
    ends = [*(one.at_ns for one in seen[1:]), stopped]
    return sum(end - one.at_ns for one, end in zip(seen, ends, strict=False) if one.misplaced) / 1e9


def changes(seen: Sequence[Seen], first: int, last: int) -> int:
    """How often the state changed between two moments."""
    pairs = itertools.pairwise(seen)
    return sum(a.state is not b.state and first <= b.at_ns <= last for a, b in pairs)


def between(times: Sequence[int], first: int, last: int) -> int:
    """How many lie between."""
    return sum(first <= moment <= last for moment in times)


def outline_ages(seen: Sequence[Seen], stopped: int) -> list[int]:
    """Age of every outline when it left the glass, nanoseconds since its frame's capture."""
    ends = [*(one.at_ns for one in seen[1:]), stopped]
    return [
        end - one.captured_ns for one, end in zip(seen, ends, strict=False) if one.captured_ns is not None
    ]


def true_ages(seen: Sequence[Seen], sent_ns: dict[int, int], stopped: int) -> list[int]:
    """The same since the frame was made, if its number can be read."""
    ends = [*(one.at_ns for one in seen[1:]), stopped]
    return [
        end - sent_ns[one.number]
        for one, end in zip(seen, ends, strict=False)
        if one.number is not None and one.number in sent_ns
    ]


def longest_gap(seen: Sequence[Seen], first: int, last: int) -> float:
    """Seconds of the longest time without any outline on the glass, from one moment to another."""
    longest = gap_began = 0
    for one, following in itertools.zip_longest(seen, seen[1:]):
        end = min(last, following.at_ns if following else last)
        if one.captured_ns is not None:
            gap_began = end
        elif end > first:
            longest = max(longest, end - max(gap_began, first))
    return longest / 1e9


def states(seen: Sequence[Seen], moments: Moments) -> list[tuple[float, str]]:
    """Each state and the second, since the fault began, from which on it was seen; the first at 0."""
    found: list[tuple[float, str]] = []
    for one in seen:
        second = max(0.0, (one.at_ns - moments.began) / 1e9)
        if one.at_ns <= moments.began:
            found = [(0.0, str(one.state))]
        elif not found or found[-1][1] != str(one.state):
            found.append((round(second, 2), str(one.state)))
    return found


def reasons(seen: Sequence[Seen], moments: Moments) -> list[str]:
    """Why there was no outline, each kind of reason once."""
    kinds: dict[str, str] = {}
    for one in seen:
        if one.reason and one.at_ns > moments.began:
            reason = _ADDRESS.sub("", one.reason)
            kinds.setdefault(_NUMBER.sub("", reason), reason)
    return list(kinds.values())


def state_words(changes: Sequence[tuple[float, str]]) -> str:
    """``nerve, 0.18 s source lost, 2.51 s nerve``; if it changed often, the first and the last."""
    words = [f"{second:.2f} s {name}" if place else name for place, (second, name) in enumerate(changes)]
    if len(words) > MAX_STATES:
        left_out = len(words) - MAX_STATES + 1
        words = [*words[: MAX_STATES - 2], f"({left_out} more changes)", words[-1]]
    return ", ".join(words)
