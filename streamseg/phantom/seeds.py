"""Assigns the seeds of phantoms by purpose, so that no net is judged on phantoms that it was fitted on.

The ranges are disjoint for every seed that a user can give. Seeds that earlier versions used stay: shipped
weights, recipes and stored runs name them.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.core.errors import UsageError

_MILLION = 1_000_000
_OLD_RUNS = 49
"""Runs with seeds below this have their phantoms between calibration and validation, as they always had."""
_FURTHER_RUNS = 2**40
"""First seed of all other runs; nothing lies above."""


@dataclass(frozen=True, slots=True)
class SeedRange:
    """Consecutive seeds for one purpose."""

    first: int
    count: int

    def take(self, count: int) -> int:
        """The first seed of ``count`` phantoms. Raises UsageError for more than there are."""
        if count > self.count:
            raise UsageError(f"{count} phantoms are more than one purpose has; give at most {self.count}")
        return self.first

    def __contains__(self, seed: int) -> bool:
        return self.first <= seed < self.first + self.count


CALIBRATION = SeedRange(0, _MILLION)
"""The scales of INT8 engines are measured on these."""
VALIDATION = SeedRange(50 * _MILLION, 10 * _MILLION)
"""The accuracy gate, and the figures of the shipped weights."""
JUDGEMENT = SeedRange(60 * _MILLION, 10 * _MILLION)
"""Output calibrations are fitted on these."""
BENCHMARK = SeedRange(70 * _MILLION, 10 * _MILLION)
"""Accuracy in benchmarks: nothing else uses them."""
DATA_SET = SeedRange(80 * _MILLION, 10 * _MILLION)
"""Data sets drawn for ``phantom:N``."""

FIXED = (CALIBRATION, VALIDATION, JUDGEMENT, BENCHMARK, DATA_SET)
"""All ranges that do not depend on a user's seed."""


def training(run_seed: int) -> SeedRange:
    """The phantoms mixed into the training of a run: a range of its own for every seed, negative ones too."""
    if 0 <= run_seed < _OLD_RUNS:
        return SeedRange(_MILLION * (run_seed + 1), _MILLION)
    number = 2 * (run_seed - _OLD_RUNS) if run_seed >= 0 else -2 * run_seed - 1
    return SeedRange(_FURTHER_RUNS + _MILLION * number, _MILLION)


def is_reserved(seed: int) -> bool:
    """Whether a seed drawn at random is one of the FIXED ranges and must be drawn again."""
    return any(seed in purpose for purpose in FIXED)
