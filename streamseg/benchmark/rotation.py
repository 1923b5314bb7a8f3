"""Blocks of measuring that take turns in rounds, so that a machine that is slower for a while slows all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.errors import EngineError, one_line
from streamseg.core.types import Say

STOPPED = "the benchmark was stopped before this was done"
"""Why something is absent after Ctrl-C."""

T = TypeVar("T")
U = TypeVar("U")


def reraise(_: str, error: Exception) -> None:
    """Ends a rotation with the first failure: for its ``on_failure``."""
    raise error


class Rotation(Generic[T]):
    """Runs one block of each name per round, every other round backwards, and keeps what the blocks return.

    A block that raises is left out from then on, and ``absent`` says why. Ctrl-C passes through a round; what
    was finished by then is kept.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        say: Say = lambda _: None,
        on_failure: Callable[[str, Exception], None] | None = None,
        limit: TimeLimit | None = None,
    ) -> None:
        """``say`` gets a line for each block. ``on_failure`` is called after a block was left out; what it
        raises ends the rotation. ``limit`` is when all is to end, by default never, and has the clock."""
        self.results: dict[str, list[T]] = {name: [] for name in names}
        """What the counted blocks returned, by name, in order."""
        self.absent: dict[str, str] = {}
        self._say, self._on_failure, self._limit = say, on_failure, limit or TimeLimit()
        self._took_s: dict[str, float] = {}

    @property
    def left(self) -> list[str]:
        """The names that were not left out."""
        return [name for name in self.results if name not in self.absent]

    @property
    def done(self) -> dict[str, list[T]]:
        """The results of those that were not left out and have some."""
        return {name: self.results[name] for name in self.left if self.results[name]}

    def warm_up(self, block: Callable[[str], object], *, backwards: bool = False, share: float = 1.0) -> None:
        """A round that does not count. A block that finds no time within a ``share``, 0..1, of the limit is
        left out."""
        limit = self._limit.part(share)
        for name in self.left[:: -1 if backwards else 1]:
            self._run_in_time(name, block, limit)

    def run(
        self,
        block: Callable[[str], T],
        rounds: int,
        *,
        budget_s: float | None = None,
        min_rounds: int = 1,
    ) -> None:
        """Run ``rounds`` rounds.

        With ``budget_s`` no round begins, after the first ``min_rounds``, that would end later than that many
        seconds after the first began if it took as long as the longest so far. The limit holds in any case:
        no round begins that would end later, and of the first one no block if it took as long as its warm-up;
        such a block is left out.
        """
        clock, longest = self._limit.now_s, 0.0
        started = clock()
        for number in range(rounds):
            began = clock()
            if budget_s is not None and number >= min_rounds and began + longest > started + budget_s:
                return
            if number and not self._limit.fits(longest):
                return
            for name in self.left[:: -1 if number % 2 else 1]:
                found = self._run(name, block) if number else self._run_in_time(name, block, self._limit)
                if found is not None:
                    self.results[name].append(found)
                    self._say(f"round {number + 1} of {rounds}: {name}: {found!r}")
            longest = max(longest, clock() - began)

    def leave_out_the_rest(self, why: str = STOPPED) -> None:
        """No more rounds: what has no result yet is absent for this reason."""
        for name, found in self.results.items():
            if not found:
                self.absent.setdefault(name, why)

    def _run_in_time(self, name: str, block: Callable[[str], U], limit: TimeLimit) -> U | None:
        if not limit.fits(self._took_s.get(name, 0.0)):
            self._leave_out(name, EngineError(TOO_LATE))
            return None
        began = limit.now_s()
        found = self._run(name, block)
        self._took_s[name] = limit.now_s() - began
        return found

    def _run(self, name: str, block: Callable[[str], U]) -> U | None:
        try:
            return block(name)
        except Exception as error:
            self._leave_out(name, error)
            return None

    def _leave_out(self, name: str, error: Exception) -> None:
        self.absent[name] = one_line(error, 300)
        self._say(f"{name} is left out: {self.absent[name]}")
        if self._on_failure is not None:
            self._on_failure(name, error)
