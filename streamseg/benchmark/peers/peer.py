"""One program of a comparison: the work that it does, ready to be timed, and what is known about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from sys import stderr
from typing import Any

from streamseg.benchmark.timing import CallTimeout
from streamseg.core.errors import MissingExtra, one_line
from streamseg.core.hardware import versions_of

MAKE_S = 300.0
"""What is not ready after so long is left out."""


@dataclass(frozen=True, slots=True, repr=False)
class Peer:
    """A program that does the work that ours does, or ours itself."""

    name: str
    """For people; unique within its kind."""
    against: str
    """Name of the one of ours that it is compared with; ours name themselves."""
    precision: str
    """fp32, bf16 or int8."""
    call: Callable[[], int]
    """Does the work once; the number of frames that came out."""
    frames: int = 1
    """Frames that one call is given."""
    version: str = ""
    remark: str = ""
    """How it works and what was asked of it, as far as that bears on its speed."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Figures for its row; names of :data:`streamseg.benchmark.peers.bench.FACTS`."""
    delivered: Callable[[], int] | None = None
    """Counts the frames in what the last call wrote, where the call itself cannot know."""

    @property
    def ours(self) -> bool:
        return self.name == self.against


Maker = Callable[[], Peer]


def prepare(
    kind: str,
    makers: Mapping[str, Maker],
    absent: dict[str, str],
    say: Callable[[str], None],
    *,
    limit_s: float = MAKE_S,
) -> list[Peer]:
    """Make peers one after another. One that fails or hangs is ``absent`` with its reason; the others stand.

    What libraries print goes to stderr, and their warnings nowhere: results go to stdout.
    """
    made: list[Peer] = []
    with CallTimeout(limit_s) as watch:
        for name, make in makers.items():
            say(f"preparing {name}")
            try:
                made.append(watch.run(partial(_quietly, make)))
            except Exception as error:  # of libraries that are not ours
                leave_out(kind, name, error, absent, say)
    return made


def leave_out(
    kind: str, name: str, error: Exception, absent: dict[str, str], say: Callable[[str], None]
) -> None:
    """Note why a peer is missing, in one line."""
    absent[f"{kind} {name}"] = words = one_line(error, 300)
    say(f"{name} is left out: {words}")


def need(what: str, package: str) -> Any:
    """The imported module. Raises MissingExtra naming the extra ``bench``."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtra(what, package, "bench") from error


def version(package: str) -> str:
    """``package 1.2.3``, or the name alone where no such package is installed."""
    return " ".join([package, *versions_of([package]).values()])


def _quietly(make: Maker) -> Peer:
    with warnings.catch_warnings(), redirect_stdout(stderr):
        warnings.simplefilter("ignore")
        return make()
