"""A program of the comparison: its work, ready to be timed, and what is known about it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from sys import stderr
from typing import Any

import numpy as np

from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.benchmark.timing import CallTimeout
from streamseg.core.errors import EngineError, MissingExtra, StallError, one_line
from streamseg.core.hardware import versions_of
from streamseg.core.types import Image, Planes, Say, Tensor
from streamseg.evaluation.overlap import Confusion
from streamseg.export.gate import MAX_PROBABILITY_DIFFERENCE, MIN_ROUGH_MASK_DICE
from streamseg.phantom import PhantomVideo

Infer = Callable[[Tensor], Planes]

MAKE_S = 300.0
"""A peer that is not ready after this time is left out."""
PROBE_SEEDS = (3, 5, 8, 13)
"""Of the phantoms with a nerve on which answers are compared."""
EXACT = 1e-3
"""FP32: largest difference of any pixel's probability from the reference's."""


@dataclass(frozen=True, slots=True, repr=False)
class Peer:
    """A program that does the work that ours does, or ours itself."""

    row: PeerRow
    """What is known of it before it is timed."""
    call: Callable[[], int]
    """Does the work once; returns the number of frames that came out."""
    delivered: Callable[[], int] | None = None
    """Counts the frames in what the last call wrote, if the call itself cannot know."""
    processor_s: Callable[[], float] = time.process_time
    """Processor time so far of the process that does the work, seconds."""

    @property
    def name(self) -> str:
        """Unique within its kind."""
        return self.row.name


Maker = Callable[[], Peer]


def prepare(
    kind: str,
    makers: Mapping[str, Maker],
    absent: dict[str, str],
    say: Say,
    *,
    limit_s: float = MAKE_S,
    limit: TimeLimit | None = None,
) -> list[Peer]:
    """Make peers one after another. One that fails or hangs is ``absent`` with its reason; the others stand.

    After ``limit`` no further one is made, and none hangs for longer than is left.

    Libraries print to stderr meanwhile, since results go to stdout; their warnings are dropped.
    """
    made: list[Peer] = []
    limit = limit or TimeLimit()
    with CallTimeout(limit_s) as timeout:
        for name, make in makers.items():
            if not limit.fits():
                leave_out(kind, name, EngineError(TOO_LATE), absent, say)
                continue
            say(f"preparing {name}")
            timeout.limit_s = min(limit_s, limit.left_s)
            try:
                made.append(timeout.run(partial(_quietly, make)))
            except Exception as error:  # of libraries that are not ours
                late = isinstance(error, StallError) and not limit.fits()
                leave_out(kind, name, EngineError(TOO_LATE) if late else error, absent, say)
    return made


def leave_out(kind: str, name: str, error: Exception, absent: dict[str, str], say: Say) -> None:
    """Note why a peer is missing, in one line; the same reason is said once."""
    words = one_line(error, 300)
    say(f"{name} is left out{', as before' if words in absent.values() else f': {words}'}")
    absent[f"{kind} {name}"] = words


def need(what: str, package: str) -> Any:
    """Import a module. Raises MissingExtra naming the extra ``bench``."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtra(what, package, "bench") from error


def version(package: str) -> str:
    """``package 1.2.3``, or the name alone if no such package is installed."""
    return " ".join([package, *versions_of([package]).values()])


def five_digits(value: float | None) -> float | None:
    """A figure with five significant digits."""
    return None if value is None else float(f"{value:.5g}")


def _quietly(make: Maker) -> Peer:
    with warnings.catch_warnings(), redirect_stdout(stderr):
        warnings.simplefilter("ignore")
        return make()


def probes() -> list[Image]:
    """Phantoms with a nerve, on which masks are compared.

    In a clip without a nerve masks are a net's false alarms, small and of another shape in each precision.
    """
    videos = (PhantomVideo(seed, height=420, width=580, fps=30, nerve=True) for seed in PROBE_SEEDS)
    return [video.frame(0).image for video in videos]


def agreement(
    infer: Infer,
    tensors: Sequence[Tensor],
    reference: Sequence[Planes],
    *,
    precision: str,
    threshold: float,
) -> dict[str, float]:
    """The distance of the answers from the reference's.

    ``difference`` is the largest of any pixel's probability, ``mask_dice`` the mean Dice of the nerve's masks
    at ``threshold`` on the last ``len(PROBE_SEEDS)`` inputs, which are those of :func:`probes`. Raises
    EngineError if it is too large: FP32 has to give the same numbers, lower precisions the same masks.
    """
    pairs = [(infer(tensor), expected) for tensor, expected in zip(tensors, reference, strict=True)]
    for answer, expected in pairs:
        if answer.shape != expected.shape or not np.isfinite(answer).all():
            raise EngineError(f"it gives maps {answer.shape} that are no probabilities {expected.shape}")
    apart = [np.abs(answer - expected) for answer, expected in pairs]
    difference, mean = float(max(map(np.max, apart))), float(max(map(np.mean, apart)))
    nerves = [(answer[0], expected[0]) for answer, expected in pairs[-len(PROBE_SEEDS) :]]
    dice = float(np.mean([Confusion.count(one > threshold, two > threshold).dice for one, two in nerves]))
    inexact = precision == "fp32" and difference > EXACT
    if inexact or mean > MAX_PROBABILITY_DIFFERENCE[precision] or dice < MIN_ROUGH_MASK_DICE:
        raise EngineError(
            f"it computes something else: probabilities differ from torch's by up to {difference:.3g}, "
            f"masks have Dice {dice:.3f}"
        )
    return {"difference": difference, "mask_dice": dice}
