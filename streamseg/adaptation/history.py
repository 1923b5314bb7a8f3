"""The rounds of an adaptation, in its folder.

::

    adapted/my-scanner/
      history.json          all finished rounds, and which of them is in use
      round-001/
        plan.json           what the round was asked to do, so that it can be resumed
        run/                the training run, which can be resumed
        weights.safetensors the adapted weights, folded and calibrated
        split.json          the images that they were trained on, and those held back
        report.html         before and after, with pictures: only for this machine
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from streamseg.core.errors import DataError, UsageError, one_line
from streamseg.core.files import read_json, write_text

FORMAT = "streamseg-adaptation-1"
HISTORY, PLAN, RUN, WEIGHTS, REPORT = (
    "history.json",
    "plan.json",
    "run",
    "weights.safetensors",
    "report.html",
)


@dataclass(frozen=True, slots=True)
class Round:
    """A finished round."""

    number: int
    date: str
    """UTC, ISO 8601."""
    base: str
    """What it started from: ``default``, or a path."""
    images: int
    """Labelled images in the data set."""
    trained: int
    """Of them, those that trained the net; the others are held back."""
    subjects: int | None
    """People in the data; None if they are not known."""
    minutes: float
    """That the round took."""
    engine: str
    """Name of the engine in the store."""
    figures: Mapping[str, Any]
    """:meth:`streamseg.adaptation.comparison.Comparison.to_json`."""
    accepted: bool
    """Whether it beat what it started from, and what was in use."""
    reasons: tuple[str, ...] = ()
    """Why it was not accepted."""
    licence: str = ""
    profile: str | None = None
    """The live profile that uses its engine since then."""
    engine_before: str | None = None
    """The engine of that profile before; None is the default one."""


@dataclass(frozen=True, slots=True)
class History:
    """The rounds of one adaptation."""

    folder: Path
    rounds: tuple[Round, ...] = ()
    in_use: int | None = None
    """Number of the round in use; None: what it started from."""

    @property
    def current(self) -> Round | None:
        """The round in use."""
        return next((one for one in self.rounds if one.number == self.in_use), None)

    def round_folder(self, number: int) -> Path:
        """Folder of a round."""
        return self.folder / f"round-{number:03d}"

    @property
    def next_number(self) -> int:
        return max((one.number for one in self.rounds), default=0) + 1

    def with_round(self, done: Round) -> History:
        """This history and one more round, in use if it was accepted."""
        return History(self.folder, (*self.rounds, done), done.number if done.accepted else self.in_use)

    def before(self) -> History:
        """This history as it was before the round in use: with the accepted one before it, or none.

        Raises UsageError if no round is in use.
        """
        if self.in_use is None:
            raise UsageError(f"no round of {self.folder} is in use; there is nothing to undo")
        earlier = [one.number for one in self.rounds if one.accepted and one.number < self.in_use]
        return History(self.folder, self.rounds, max(earlier, default=None))

    def write(self) -> None:
        """Raises SinkError."""
        values = {"format": FORMAT, "in_use": self.in_use, "rounds": [asdict(one) for one in self.rounds]}
        write_text(self.folder / HISTORY, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> History:
        """The history in a folder; empty if there is none. Raises DataError for a damaged one."""
        path = folder / HISTORY
        values = read_json(path)
        if values is None:
            return cls(folder)
        try:
            if values.get("format") != FORMAT:
                raise ValueError(f"its format is {values.get('format')!r}, this version reads {FORMAT!r}")
            known = {one.name for one in fields(Round)}
            rounds = tuple(
                Round(**{key: value for key, value in one.items() if key in known})
                for one in values["rounds"]
            )
            in_use = values["in_use"]
            if in_use is not None and in_use not in [one.number for one in rounds]:
                raise ValueError(f"round {in_use} is in use and not among the rounds")
            return cls(folder, rounds, in_use)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({one_line(error)}); restore it, or choose another --name"
            ) from error


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round was asked to do: the same request resumes it."""

    base: str
    base_sha256: str
    data: str
    """Fingerprint of images, labels and split, at the net's input size."""
    minutes: float
    config: Mapping[str, Any]
    """The training configuration, with the epochs that fit into the time."""
    began: str
    seconds: float = 0.0
    """Spent in earlier calls."""

    def write(self, folder: Path) -> None:
        """Raises SinkError."""
        write_text(folder / PLAN, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan of an unfinished round; None without one, or for one that cannot be read."""
        try:
            values = read_json(folder / PLAN)
            if values is None or values.get("format") != FORMAT:
                return None
            known = {one.name for one in fields(cls)}
            return cls(**{key: value for key, value in values.items() if key in known})
        except (DataError, TypeError):
            return None

    def same_request(self, other: Plan) -> bool:
        """Whether both ask for the same."""
        names = ("base", "base_sha256", "data", "minutes")
        seeds = [one.config.get("seed") for one in (self, other)]
        return seeds[0] == seeds[1] and all(getattr(self, name) == getattr(other, name) for name in names)


def start_afresh(folder: Path) -> None:
    """Empty the folder of a round that was not finished, and that nobody resumes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
