"""The parts that all rows of benchmark results share, and the reading of any row from JSON.

A result is a JSON list of rows. The fields of these dataclasses are the keys of its objects, and their
docstrings are the only description of the format. A figure's name ends in its unit: less is better for
``_ms``, ``_s`` and ``_bytes``, more for ``_fps``. What is not known is null.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Self, TypeVar, cast, get_args, get_origin, get_type_hints

from streamseg.benchmark.rows.figures import Figure
from streamseg.core.errors import DataError
from streamseg.core.files import finite, write_whole
from streamseg.core.latency import Percentiles
from streamseg.reporting.formatting import percent

NOT_A_KEY = {"key": False}
"""Metadata of fields that are not part of the JSON."""
MAX_NUMBER = 1e15
"""Larger than any byte, nanosecond or operation count that a row holds; charts have no room for more."""
BUSY = 0.1
"""Share of the processor time that other processes may take."""
BUDGET_MS = 150.0
"""Age budget of runs that do not give theirs."""

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A JSON object with known keys. A field that is not known has its default."""

    given: frozenset[str] | None = field(default=None, compare=False, repr=False, metadata=NOT_A_KEY)
    """Keys that the object had in its file; None if it was not read from one."""

    @classmethod
    def unknown(cls) -> Self:
        """A record without any known value, written as null: the default of fields that hold a record."""
        return cls(given=frozenset())

    def has(self, key: str) -> bool:
        """Whether the object has a key; those that were not read from a file have all."""
        return self.given is None or key in self.given

    def to_json(self) -> dict[str, Any]:
        """The object for JSON: numbers that are not finite are null, missing keys stay missing."""
        return {
            key: _plain(getattr(self, name))
            for name, key, _ in _fields(cast("Any", type(self)))
            if self.has(key)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Record):
    """The distribution of times over calls or frames, milliseconds."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, found: Percentiles) -> Self:
        """Of measured times, to a microsecond."""
        return cls(**finite(found.to_json()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread(Record):
    """A figure over the rounds of a measurement."""

    median: float | None = None
    min: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 4) -> Self:
        """Of one value per round, rounded; at least one."""
        ends = statistics.median(values), min(values), max(values)
        median, least, most = (round(value, digits) for value in ends)
        return cls(median=median, min=least, max=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInfo(Record):
    """The fastest arithmetic, or copying, that was measured on the machine."""

    giga_per_s: float | None = None
    """10^9 floating-point operations, or bytes copied, per second."""
    kernel: str = ""
    """The kernel that reached it."""
    kernels: dict[str, float] = field(default_factory=dict)
    """The rate of every kernel, 10^9 per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRef(Record):
    """The engine that was measured."""

    name: str | None = None
    sha256: str | None = None
    precision: str | None = None
    backend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo(Record):
    """Where a row is from and how it was measured; the same in all rows of a run."""

    command: str = ""
    """The command line, without folders."""
    quick: bool = False
    """Measured with few repeats."""
    date: str = ""
    """YYYY-MM-DD, local."""
    started: str = ""
    """ISO 8601, UTC."""
    machine: dict[str, Any] = field(default_factory=dict)
    """``processor``, ``cores``, ``features``, ``gpu``, ``power`` (clocks and their limits), ``commit``, and
    versions by package."""
    threads: int | None = None
    """Of a net."""
    source: dict[str, Any] | None = None
    """The clip: its name, size, rate and region."""
    regime: dict[str, Any] = field(default_factory=dict)
    """How it was measured, in numbers: rounds, seconds of a block, calls of warm-up, paces and the like."""
    limits: dict[str, LimitInfo] = field(default_factory=dict)
    """By kind: ``fp32``, ``int8``, ``copy``; of a GPU ``gpu fp16`` and the like."""
    others_share: float | None = None
    """Share of the processor time, 0..1, that other processes took during the run."""
    absent: dict[str, str] = field(default_factory=dict)
    """Why something that was asked for has no row, by its key."""
    seconds: float | None = None
    """Duration of the whole run."""
    stopped: bool = False
    """Ended by Ctrl-C; the rows are of what was finished."""
    file: str = field(default="", metadata=NOT_A_KEY)
    """Name of the file, for rows that do not say where they are from."""

    @property
    def commit(self) -> str:
        """The commit that was measured, ``-dirty`` with changes; empty if unknown."""
        return str(self.machine.get("commit") or "")

    @property
    def gpu(self) -> str:
        """Name of the machine's GPU; empty without one."""
        return str(self.machine.get("gpu") or "")

    @property
    def hardware(self) -> str:
        """``NVIDIA H200, AMD EPYC, 16 cores``."""
        cores = number(self.machine.get("cores"))
        words = [self.gpu, str(self.machine.get("processor") or "an unnamed processor")]
        return ", ".join([word for word in words if word] + ([f"{cores:.0f} cores"] if cores else []))

    @property
    def budget_ms(self) -> float:
        """Age at which an outline is no longer displayed."""
        return number(self.regime.get("budget_ms")) or BUDGET_MS

    @property
    def remarks(self) -> list[str]:
        """Reasons against publishing its figures; empty if there are none."""
        found = ["A quick run: few repeats."] if self.quick else []
        if self.commit.endswith("-dirty"):
            found.append(f"Measured with changes that are not committed ({self.commit}).")
        elif not self.commit:
            found.append("Not measured from a commit.")
        if self.is_busy:
            found.append(
                f"Other processes took {percent(self.others_share)} of the processor meanwhile; "
                f"at most {percent(BUSY)} is quiet."
            )
        return found

    @property
    def is_busy(self) -> bool:
        """Whether other processes took so much that the figures are not of this program alone."""
        return (self.others_share or 0.0) > BUSY


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Record):
    """One thing that was measured."""

    bench: str = ""
    """``nets``, ``pipeline``, ``streams`` or ``peers``."""
    key: str = ""
    """What was measured: unique within a run, and the same in the next run."""
    run: RunInfo = field(default_factory=RunInfo.unknown)
    rounds: dict[str, list[float | None]] = field(default_factory=dict)
    """By figure, one value per round of the interleaved measurement."""
    notes: list[str] = field(default_factory=list)
    """What is wrong with the row or may mislead; empty if nothing is."""
    numbered: bool = field(default=False, metadata=NOT_A_KEY)
    """Its key was given by the reader, as others of the file had the same."""

    def figures(self) -> Iterator[Figure]:
        """The figures of one value that ``bench compare`` judges, besides those that are given by round."""
        return iter(())

    @property
    def engine_sha256(self) -> str | None:
        """Digest of the engine that was measured, if known."""
        return None

    @property
    def has_own_pace(self) -> bool:
        """Whether a source gave the pace of the frames, so that their rate is not the machine's."""
        return False


def decode(cls: type[R], value: object) -> R:
    """A record from JSON: a key that is missing, null or of another kind gets its default."""
    found = value if isinstance(value, Mapping) else {}
    described = _fields(cast("Any", cls))
    read = {name: _read(kind, found.get(key)) for name, key, kind in described}
    given = frozenset(key for _, key, _ in described if key in found)
    return cls(given=given, **{name: item for name, item in read.items() if item is not None})


def number(value: object) -> float | None:
    """A finite number of a size that is measured; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= MAX_NUMBER and math.isfinite(value) else None


def _read(kind: Any, value: object) -> Any:
    """The value if it is of the annotated kind, else None; of records and collections an empty one."""
    if kind is Any:
        return value
    if _optional(kind):
        required = next(part for part in get_args(kind) if part is not NoneType)
        return None if value is None else _read(required, value)
    if isinstance(kind, type) and issubclass(kind, Record):
        return decode(kind, value)
    if get_origin(kind) is not None:
        return _read_items(get_origin(kind), get_args(kind), value)
    if kind in (int, float):
        known = number(value)
        return int(known) if kind is int and known is not None else known
    return value if isinstance(value, kind) else None


def _read_items(form: Any, kinds: Sequence[Any], value: object) -> Any:
    """A dict, list or tuple, without items of another kind; a tuple only if all are of the right kind."""
    if form is dict:
        found = dict(value) if isinstance(value, Mapping) else {}
        read = {str(name): _read(kinds[1], item) for name, item in found.items()}
        return {name: item for name, item in read.items() if item is not None or _optional(kinds[1])}
    items = list(value) if isinstance(value, list | tuple) else []
    if form is list:
        listed = [_read(kinds[0], item) for item in items]
        return [item for item in listed if item is not None or _optional(kinds[0])]
    parts = tuple(map(_read, kinds, items))
    return None if len(items) != len(kinds) or None in parts else parts


def _optional(kind: Any) -> bool:
    return kind is Any or NoneType in get_args(kind)


@cache
def _fields(cls: Any) -> list[tuple[str, str, Any]]:
    """Name, JSON key (``from`` of ``from_``) and annotated kind of each field that is written."""
    kinds = get_type_hints(cls)
    written = [item.name for item in fields(cls) if item.metadata.get("key", True)]
    return [(name, name.rstrip("_"), kinds[name]) for name in written]


def _plain(value: object) -> Any:
    """The value for JSON."""
    if isinstance(value, Record):
        return None if value.given == frozenset() else value.to_json()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return finite(value)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a result as a JSON list, whole or not at all. Raises SinkError."""
    text = json.dumps([row.to_json() for row in rows], allow_nan=False, indent=1)
    write_whole(path, (text + "\n").encode())


def write_result(stem: Path, result: Mapping[str, Any], lines: Sequence[str]) -> tuple[Path, Path]:
    """Write ``stem``.json and its human-readable ``stem``.md, each whole or not at all; returns their paths.

    Raises SinkError.
    """
    paths = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    write_whole(paths[0], (json.dumps(result, indent=1) + "\n").encode())
    write_whole(paths[1], ("\n".join(lines) + "\n").encode())
    return paths


def read_result(path: Path) -> dict[str, Any]:
    """The result of an earlier run; empty if there is no file. Raises DataError for a damaged one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not the result of an earlier run ({error}); move it away") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not the result of an earlier run; move it away")
    return found
