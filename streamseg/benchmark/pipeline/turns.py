"""Runs the pipeline's modes in turn, and keeps what came of each so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamseg.benchmark.pipeline.run import EndToEnd, Paced
from streamseg.benchmark.timing import STOPPED
from streamseg.core.errors import one_line
from streamseg.core.types import Backend, Say

Outcome = EndToEnd | Paced
WARM_S = 1.0
"""Seconds that each mode runs before it counts."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the pipeline."""

    key: str
    engine: Backend
    source_fps: float | None
    """None for replay."""
    run: Callable[[float], Outcome]
    """Runs it for about so many seconds."""


class Turns:
    """Modes that take turns in rounds, every other round backwards; a run of each that does not count comes
    first."""

    def __init__(self, modes: Sequence[Mode], say: Say) -> None:
        self.absent: dict[str, str] = {}
        """Why modes have no outcome, by key."""
        self._modes, self._say = modes, say
        self._found: dict[str, list[Outcome]] = {mode.key: [] for mode in modes}

    @property
    def done(self) -> list[tuple[Mode, list[Outcome]]]:
        """Modes that have outcomes and have not failed, with one per round."""
        left = [mode for mode in self._modes if mode.key not in self.absent]
        return [(mode, self._found[mode.key]) for mode in left if self._found[mode.key]]

    def run(self, rounds: int, seconds: float) -> None:
        """Run all of them, for so long each in each round. One that fails is ``absent`` from then on.

        Ctrl-C passes through; what was finished is kept.
        """
        for number in range(rounds + 1):
            for mode in self._modes if number % 2 else self._modes[::-1]:
                if mode.key not in self.absent:
                    self._take_turn(mode, number, rounds, seconds)

    def stopped(self) -> None:
        """There will be no more turns: what has no outcome yet is ``absent`` for that."""
        for mode in self._modes:
            if not self._found[mode.key]:
                self.absent.setdefault(mode.key, STOPPED)

    def _take_turn(self, mode: Mode, number: int, rounds: int, seconds: float) -> None:
        try:
            outcome = mode.run(seconds if number else min(WARM_S, seconds))
        except Exception as error:
            self.absent[mode.key] = one_line(error)
            self._say(f"{mode.key} is left out: {self.absent[mode.key]}")
            return
        if number:
            self._found[mode.key].append(outcome)
            self._say(f"round {number} of {rounds}: {mode.key}: {outcome!r}")
