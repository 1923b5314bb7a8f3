"""What got slower or worse from one result to another, taking the spread of each run into account.

Rows are matched by ``bench`` and ``key``. Figures that rows give by round are judged by their rounds,
others as the row's class declares (:mod:`streamseg.benchmark.rows.figures`).
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamseg.benchmark.compare.verdict import (
    BETTER,
    SAME,
    UNCLEAR,
    WORSE,
    Change,
    by_frames,
    by_ratio,
    by_rounds,
    by_value,
)
from streamseg.benchmark.rows.figures import Figure
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.run import Row, RunInfo
from streamseg.core.errors import DataError
from streamseg.reporting.formatting import percent, table

MORE_IS_BETTER = ("fps",)
LESS_IS_BETTER = ("_ms", "_s", "_bytes")
TIMED = (*MORE_IS_BETTER, "_ms", "_s", "p50", "p95", "p99")
"""Ends of names of figures that get slower or faster."""
MACHINE = ("processor", "cores", "features", "gpu", "compute_capability", "driver")
PASSING = ("load", "commit", "power", "last_level_cache_bytes")
"""What differs between any two runs of a machine, or follows from the rest."""
POWER = ("governor", "boost", "supply", "hypervisor", "memory_bytes")
GPU_POWER = ("persistence_mode", "power_limit_w", "slowed_by")
MAX_SHOWN = 60
"""Characters of a value in a warning."""
ORDER = (WORSE, UNCLEAR, BETTER, SAME)
SHOWN_NAMES = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of one row in both results."""

    bench: str
    key: str
    figure: str
    a: float | None
    """Median of its rounds, or its one value; None if it was not measured."""
    b: float | None
    rounds: tuple[int, int] | None
    """Number of values in A and B; None for one without rounds."""
    change: Change
    less_is_better: bool

    @property
    def loss(self) -> float:
        """How many times as bad it is in B: the sort key."""
        ratio = self.change.ratio
        if ratio is None or ratio <= 0:
            return float("inf") if self.change.verdict == WORSE else 1.0
        return ratio if self.less_is_better else 1 / ratio

    @property
    def words(self) -> str:
        """The verdict, human-readable."""
        slower = {WORSE: "slower", BETTER: "faster"} if self.figure.endswith(TIMED) else {}
        verdict = self.change.verdict
        return slower.get(verdict, verdict) + (f": {self.change.why}" if self.change.why else "")

    def to_json(self) -> dict[str, Any]:
        """Flat: the change's ``verdict``, ``ratio``, ``low``, ``high`` and so on stand beside the rest."""
        values = asdict(self)
        change = values.pop("change")
        return {**values, **change}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results, A and B."""

    findings: tuple[Finding, ...]
    """Worst first."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    """Names of rows that the other result does not have."""
    lost: Mapping[str, str]
    """Rows of A that B was asked for and could not measure, and why."""
    warnings: tuple[str, ...]
    """Why the figures may not be comparable."""

    @property
    def counts(self) -> dict[str, int]:
        """Figures by verdict."""
        found = Counter(finding.change.verdict for finding in self.findings)
        return {verdict: found[verdict] for verdict in (WORSE, BETTER, SAME, UNCLEAR)}

    @property
    def worse(self) -> bool:
        """Whether any figure got worse or is no longer measured."""
        gone = any(found.a is not None and found.b is None for found in self.findings)
        return bool(self.counts[WORSE] or self.lost or self.only_a or gone)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "what": "comparison",
            "paired": False,  # was true of commits that ran in turn
            "counts": self.counts,
            "warnings": list(self.warnings),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "lost": dict(self.lost),
            "figures": [finding.to_json() for finding in self.findings],
        }


def compare(a: Sequence[Row], b: Sequence[Row]) -> Comparison:
    """Compare two results. Raises DataError if one of them has two rows of the same name."""
    before, after = _by_name(a, "A"), _by_name(b, "B")
    findings = [finding for name in before if name in after for finding in _row(before[name], after[name])]
    absent = {key: why for row in b for key, why in row.run.absent.items()}
    missing = [name for name in before if name not in after]
    return Comparison(
        tuple(sorted(findings, key=lambda found: (ORDER.index(found.change.verdict), -found.loss))),
        tuple(_title(name) for name in missing if name[1] not in absent),
        tuple(_title(name) for name in after if name not in before),
        {_title(name): absent[name[1]] for name in missing if name[1] in absent},
        tuple(_warnings(before, after)),
    )


def _by_name(rows: Sequence[Row], result: str) -> dict[tuple[str, str], Row]:
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        name = row.bench, row.key
        if name in found:
            raise DataError(f"result {result} has two rows of {_title(name)}; give the file of one run")
        found[name] = row
    return found


def _row(a: Row, b: Row) -> Iterator[Finding]:
    """The figures that both rows have."""
    for name in a.rounds:
        if name not in b.rounds or not name.endswith(MORE_IS_BETTER + LESS_IS_BETTER):
            continue
        less = name.endswith(LESS_IS_BETTER)
        first, second = ([value for value in row.rounds[name] if value is not None] for row in (a, b))
        machine = None if name.endswith("_bytes") else _machine_ratio(a, b, name)
        busy = a.run.is_busy or b.run.is_busy
        change = by_rounds(first, second, less_is_better=less, machine=machine, busy=busy)
        counts = len(first), len(second)
        yield Finding(a.bench, a.key, name, _median(first), _median(second), counts, change, less)
    after = {figure.name: figure for figure in b.figures()}
    for one in a.figures():
        other = after.get(one.name)
        if other is None or (one.value is None and other.value is None) or _told(a, b, one, other):
            continue
        change = _change(a, b, one, other)
        yield Finding(a.bench, a.key, one.name, one.value, other.value, None, change, one.less_is_better)


def _told(a: Row, b: Row, one: Figure, other: Figure) -> bool:
    """Whether the rounds of both rows say more of a rate or time than its value."""
    measured = one.value is not None and other.value is not None
    return one.judged == "ratio" and measured and all(any(row.rounds.values()) for row in (a, b))


def _change(a: Row, b: Row, one: Figure, other: Figure) -> Change:
    match one.judged:
        case "ratio":
            return by_ratio(one, other, _machine_ratio(a, b, one.name))
        case "frames":
            return by_frames(one, other, machine_ratio(a, b))
    return by_value(one, other)


def _machine_ratio(a: Row, b: Row, name: str) -> float | None:
    """The machine's own change; None for rates of frames from a source that has its own pace."""
    return None if name.endswith("fps") and a.has_own_pace else machine_ratio(a, b)


def machine_ratio(a: Row, b: Row) -> float | None:
    """How many times as fast the machine itself was in B, by its measured limits; None if not measured.

    By the limit of the row's own kind, else the median over the kinds that both runs measured.
    """
    if isinstance(a, NetRow) and isinstance(b, NetRow) and a.limit.kind and a.limit.kind == b.limit.kind:
        ratio = _rate_ratio(a.limit.giga_per_s, b.limit.giga_per_s)
        if ratio is not None:
            return ratio
    shared = a.run.limits.keys() & b.run.limits.keys()
    rates = [(a.run.limits[kind].giga_per_s, b.run.limits[kind].giga_per_s) for kind in shared]
    ratios = sorted(ratio for pair in rates if (ratio := _rate_ratio(*pair)) is not None)
    return ratios[len(ratios) // 2] if ratios else None


def _rate_ratio(a: float | None, b: float | None) -> float | None:
    return b / a if a is not None and b is not None and min(a, b) > 0 else None


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _warnings(a: Mapping[tuple[str, str], Row], b: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    both = [name for name in a if name in b]
    if not both:
        yield "the two results have no row in common: nothing was compared"
    found = Counter(line for name in both for line in differences(a[name].run, b[name].run))
    for line, count in found.items():
        yield line if count == len(both) else f"{line} ({count} of {len(both)} rows)"
    if twins := [_title(name) for name in both if a[name].numbered or b[name].numbered]:
        yield f"rows that do not say how they differ were numbered by their speed: {_some(twins)}"
    others = [_title(name) for name in both if _engines_differ(a[name], b[name])]
    if others:
        yield f"the engine differs in {len(others)} of {len(both)} rows: {_some(others)}"


def differences(a: RunInfo, b: RunInfo) -> list[str]:
    """What makes the figures of two runs not comparable, a line each."""
    silent = [name for name, run in (("A", a), ("B", b)) if not run.machine]
    if len(silent) == 1:
        found = [f"{silent[0]} does not say on what machine and how it was measured"]
    else:
        found = [f"{what} differs: {', '.join(changes)}" for what, changes in _groups(a, b) if changes]
    for name, run in (("A", a), ("B", b)):
        if run.is_busy:
            found.append(f"others took {percent(run.others_share)} of the machine in {name}")
        if run.stopped:
            found.append(f"run {name} was stopped before its end")
    return found


def _groups(a: RunInfo, b: RunInfo) -> Iterator[tuple[str, list[str]]]:
    """Groups of changes from A to B."""
    names = sorted((a.machine.keys() | b.machine.keys()) - {*MACHINE, *PASSING})
    yield "the machine", _differing(a.machine, b.machine, MACHINE)
    yield "the software", _differing(a.machine, b.machine, names)
    powers = _part(a.machine, "power"), _part(b.machine, "power")
    if all(powers):  # older results do not say
        gpus = _part(powers[0], "gpu"), _part(powers[1], "gpu")
        yield "the power state", _differing(*powers, POWER) + _differing(*gpus, GPU_POWER)
    sources = a.source or {}, b.source or {}
    # Where a clip lies does not matter; the default's folder is another one each time.
    yield "the source", _differing(*sources, sorted({*sources[0], *sources[1]} - {"uri"}))
    fixed = _differing({"quick": a.quick, "threads": a.threads}, {"quick": b.quick, "threads": b.threads})
    yield "how it was measured", fixed + _differing(a.regime, b.regime)


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], names: Iterable[str] | None = None) -> list[str]:
    """The values that differ, of all names unless some are given."""
    return [
        f"{name} {_short(a.get(name))} -> {_short(b.get(name))}"
        for name in (sorted({*a, *b}) if names is None else names)
        if a.get(name) != b.get(name)
    ]


def _short(value: object) -> str:
    text = "unknown" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _engines_differ(a: Row, b: Row) -> bool:
    """Whether two rows are known to be of different engine files."""
    digests = a.engine_sha256, b.engine_sha256
    return None not in digests and digests[0] != digests[1]


def _title(name: tuple[str, str]) -> str:
    return f"{name[0]} {name[1]}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def lines(found: Comparison) -> list[str]:
    """Markdown: what changed, worst first, what cannot be compared, and the counts."""
    text = [f"warning: {line}" for line in found.warnings]
    changed = [one for one in found.findings if one.change.verdict != SAME]
    if changed:
        head = ("what", "figure", "A", "B", "change", "between", "machine set off", "verdict")
        text += ["", *table(head, [_cells(one) for one in changed]), ""]
    for name, why in found.lost.items():
        text.append(f"not measured in B: {name}: {why}")
    for result, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            text.append(f"only in {result}: {_some(names)}")
    counts = found.counts
    text.append(
        f"{len(found.findings)} figures compared: {counts[WORSE]} worse, {counts[BETTER]} better, "
        f"{counts[SAME]} the same, {counts[UNCLEAR]} unclear"
    )
    return text


def _cells(one: Finding) -> tuple[object, ...]:
    change = one.change
    spread = None if change.low is None else f"{_percent(change.low)} .. {_percent(change.high)}"
    return (
        f"{one.bench} {one.key}",
        one.figure,
        one.a,
        one.b,
        _percent(change.ratio),
        spread,
        _percent(change.relative),
        one.words,
    )


def _percent(ratio: float | None) -> str | None:
    """``+10.2 %`` of 1.102."""
    return None if ratio is None else f"{100 * (ratio - 1):+.1f} %"
