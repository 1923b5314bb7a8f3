"""How long each part of ``make bench`` may take, so that all of it ends in time on a slower machine too.

The nets come first and are measured as ever. How long they took says how slow the machine is, and what is
left is divided among the others: peers get three rounds in place of five, and the rounds of the pipeline and
of streams become shorter. Nothing is left out, and nothing has fewer than three rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOTAL_S = 530.0
"""Of two cores, and of ones that are half as slow again as far as shorter rounds allow it."""
NETS_S = 261.0
"""What the nets take where all others can have their full time."""
PEERS_S: Mapping[int, float] = {5: 128.0, 3: 110.0}
"""What peers take there, by rounds."""
PACED_S = {"pipeline": 6.0, "streams": 5.0}
"""Of each mode or number of streams in each round, where there is time for it."""
BLOCKS = 12
"""Three rounds of four modes, or of four numbers of streams."""
FIXED_S = {"pipeline": 18.0, "streams": 27.0, "report": 12.0}
"""What is not rounds: starting, loading, warm-up, limits."""
LEAST_S = 1.5
"""Of a block: 45 frames at 30 per second, in three rounds."""
ENOUGH = 0.8
"""Share of their full blocks that pipeline and streams are to have before peers get five rounds."""


@dataclass(slots=True)
class Spent:
    """Seconds that the parts took so far."""

    by: dict[str, float] = field(default_factory=dict)

    @property
    def all(self) -> float:
        """Of all parts."""
        return sum(self.by.values())

    @property
    def slowness(self) -> float:
        """How many times :data:`NETS_S` the nets took; 1 while that is not known."""
        return max(0.5, self.by.get("nets", NETS_S) / NETS_S)

    def add(self, bench: str, seconds: float) -> None:
        """A part is done."""
        self.by[bench] = seconds


def limited(bench: str, spent: Spent) -> list[str]:
    """Options that make a part short enough; none where there is time for all of it, or it has none such."""
    if bench == "peers":
        whole = share_of_blocks(spent, spent.slowness * PEERS_S[5]) >= ENOUGH
        return [] if whole else ["--rounds", "3"]
    if bench in PACED_S:
        share = share_of_blocks(spent)
        seconds = max(LEAST_S, round(2 * share * PACED_S[bench]) / 2)
        return [] if seconds >= PACED_S[bench] else ["--rounds", "3", "--seconds", f"{seconds:g}"]
    return []


def share_of_blocks(spent: Spent, before: float = 0.0) -> float:
    """What share of their full blocks the parts still to come have time for, once ``before`` is spent."""
    coming = {name: full for name, full in PACED_S.items() if name not in spent.by}
    fixed = spent.slowness * (FIXED_S["report"] + sum(FIXED_S[name] for name in coming))
    left = TOTAL_S - spent.all - before - fixed
    return min(1.0, max(0.0, left / (BLOCKS * sum(coming.values())))) if coming else 1.0
