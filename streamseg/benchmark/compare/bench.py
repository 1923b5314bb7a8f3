"""What got slower or worse from one result to another, with the spread of each run taken into account.

Rows are matched by ``bench`` and ``key``. Figures that rows give by round are judged by
:mod:`~streamseg.benchmark.compare.spread`, those that vary and have no rounds by
:mod:`~streamseg.benchmark.compare.headline`, and those of one value by
:mod:`~streamseg.benchmark.compare.single`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamseg.benchmark.compare.comparable import (
    busy,
    differences,
    engines_differ,
    machine_ratio,
    part,
)
from streamseg.benchmark.compare.headline import TIMES, change_of_headline, headlines, tails
from streamseg.benchmark.compare.single import change_of, number, singles
from streamseg.benchmark.compare.spread import (
    BETTER,
    LEAST_ROUNDS,
    SAME,
    UNCLEAR,
    WORSE,
    Change,
    between_runs,
    between_turns,
)
from streamseg.benchmark.rows import Row
from streamseg.core.errors import DataError
from streamseg.reporting.formatting import table

MORE_IS_BETTER = ("fps",)
LESS_IS_BETTER = ("_ms", "_s", "_bytes")
ORDER = (WORSE, UNCLEAR, BETTER, SAME)
SHOWN_NAMES = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of one row in both results."""

    bench: str
    key: str
    figure: str
    a: float | None
    """Median of its rounds, or its one value; None where it was not measured."""
    b: float | None
    rounds: tuple[int, int] | None
    """How many values it has in A and B; None for one without rounds."""
    change: Change
    less_is_better: bool

    @property
    def loss(self) -> float:
        """How many times as bad it is in B, for sorting."""
        ratio = self.change.ratio
        if ratio is None or ratio <= 0:
            return float("inf") if self.change.verdict == WORSE else 1.0
        return ratio if self.less_is_better else 1 / ratio

    @property
    def words(self) -> str:
        """The verdict, for people."""
        timed = self.figure.endswith(("fps", "_ms", "_s")) or self.figure.startswith(TIMES)
        slower = {WORSE: "slower", BETTER: "faster"} if timed else {}
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
    """Names of rows that the other result has not."""
    lost: Mapping[str, str]
    """Rows of A that B was asked for and could not measure, and why."""
    warnings: tuple[str, ...]
    """Why the figures may not be comparable."""
    paired: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Figures by verdict."""
        found = Counter(finding.change.verdict for finding in self.findings)
        return {verdict: found[verdict] for verdict in (WORSE, BETTER, SAME, UNCLEAR)}

    @property
    def worse(self) -> bool:
        """Whether anything is, or is not measured any more."""
        gone = any(found.a is not None and found.b is None for found in self.findings)
        return bool(self.counts[WORSE] or self.lost or self.only_a or gone)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "what": "comparison",
            "paired": self.paired,
            "counts": self.counts,
            "warnings": list(self.warnings),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "lost": dict(self.lost),
            "figures": [finding.to_json() for finding in self.findings],
        }


def compare(a: Sequence[Row], b: Sequence[Row], *, paired: bool = False) -> Comparison:
    """Compare two results. Of ``paired`` ones each row's rounds are turns, None where one failed.

    Raises DataError where one result has two rows of the same name, or rows that are none.
    """
    before, after = _by_name(a, "A"), _by_name(b, "B")
    findings = [
        finding for name in before if name in after for finding in _row(before[name], after[name], paired)
    ]
    absent = {key: str(why) for row in b for key, why in part(row["run"], "absent").items()}
    missing = [name for name in before if name not in after]
    return Comparison(
        tuple(sorted(findings, key=lambda found: (ORDER.index(found.change.verdict), -found.loss))),
        tuple(_title(name) for name in missing if name[1] not in absent),
        tuple(_title(name) for name in after if name not in before),
        {_title(name): absent[name[1]] for name in missing if name[1] in absent},
        tuple(_warnings(before, after)),
        paired,
    )


def _by_name(rows: Sequence[Row], result: str) -> dict[tuple[str, str], Row]:
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if not isinstance(row["run"], Mapping) or not isinstance(row["rounds"], Mapping):
            raise DataError(
                f"result {result} is damaged: run or rounds of {row['key']} hold no names; measure it again"
            )
        name = str(row["bench"]), str(row["key"])
        if name in found:
            raise DataError(f"result {result} has two rows of {_title(name)}; give the file of one run")
        found[name] = row
    return found


def _row(a: Row, b: Row, paired: bool) -> Iterator[Finding]:
    bench, key = str(a["bench"]), str(a["key"])
    for figure in a["rounds"]:
        if figure not in b["rounds"] or not figure.endswith(MORE_IS_BETTER + LESS_IS_BETTER):
            continue
        less = figure.endswith(LESS_IS_BETTER)
        turns = [(number(x), number(y)) for x, y in zip(_values(a, figure), _values(b, figure), strict=False)]
        if paired:
            whole = [(x, y) for x, y in turns if x is not None and y is not None]
            first, second = [x for x, _ in whole], [y for _, y in whole]
            change = between_turns(first, second, less_is_better=less)
        else:
            first, second = _numbers(a, figure), _numbers(b, figure)
            machine = None if _at_others_pace(a, figure) else machine_ratio(a, b)
            disturbed = busy(a["run"], b["run"])
            change = between_runs(first, second, less_is_better=less, machine=machine, busy=disturbed)
        counts = len(first), len(second)
        yield Finding(bench, key, figure, _median(first), _median(second), counts, change, less)
    if not paired:
        yield from _headlines(a, b)
    before, after = singles(a), singles(b)
    for name, one in before.items():
        if paired and one.kind == "limit":
            continue  # of one run, whose drift the turns set off better
        if name in after and (one.value is not None or after[name].value is not None):
            change = change_of(one, after[name], machine_ratio(a, b))
            less = one.kind in ("bytes", "lost")
            yield Finding(bench, key, name, one.value, after[name].value, None, change, less)


def _headlines(a: Row, b: Row) -> Iterator[Finding]:
    """What the rounds do not tell."""
    slow = tails(a), tails(b)
    if min(map(len, slow)) >= LEAST_ROUNDS:
        change = between_runs(*slow, less_is_better=True, machine=machine_ratio(a, b))
        if change.verdict != UNCLEAR:  # which tails mostly are
            counts = len(slow[0]), len(slow[1])
            ends = _median(slow[0]), _median(slow[1])
            yield Finding(str(a["bench"]), str(a["key"]), "latency_p99_ms", *ends, counts, change, True)
    before, after = headlines(a), headlines(b)
    for name in (name for name in before if name in after):
        one, other = before[name], after[name]
        if (one.told and other.told) or (one.value is None and other.value is None):
            continue
        machine = None if _at_others_pace(a, name) else machine_ratio(a, b)
        change, less = change_of_headline(one, other, machine), one.less_is_better
        yield Finding(str(a["bench"]), str(a["key"]), name, one.value, other.value, None, change, less)


def _at_others_pace(row: Row, figure: str) -> bool:
    """Whether the machine's has no part in it: memory, and frames from a source that has its own pace."""
    return figure.endswith("_bytes") or (figure.endswith("fps") and row.get("source_fps") is not None)


def _values(row: Row, figure: str) -> list[Any]:
    values = row["rounds"][figure]
    return values if isinstance(values, list) else []


def _numbers(row: Row, figure: str) -> list[float]:
    return [found for value in _values(row, figure) if (found := number(value)) is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _warnings(a: Mapping[tuple[str, str], Row], b: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    both = [name for name in a if name in b]
    if not both:
        yield "the two results have no row in common: nothing was compared"
    found = Counter(line for name in both for line in differences(a[name]["run"], b[name]["run"]))
    for line, count in found.items():
        yield line if count == len(both) else f"{line} ({count} of {len(both)} rows)"
    if twins := [_title(name) for name in both if a[name].get("numbered") or b[name].get("numbered")]:
        yield f"rows that do not say how they differ were numbered by their speed: {_some(twins)}"
    others = [_title(name) for name in both if engines_differ(a[name], b[name])]
    if others:
        yield f"the engine differs in {len(others)} of {len(both)} rows: {_some(others)}"


def _title(name: tuple[str, str]) -> str:
    return f"{name[0]} {name[1]}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def lines(found: Comparison) -> list[str]:
    """Markdown for people: what changed, worst first, what cannot be compared, and the count."""
    text = [f"warning: {line}" for line in found.warnings]
    changed = [one for one in found.findings if one.change.verdict != SAME]
    if changed:
        head = ("what", "figure", "A", "B", "change", "between", "machine set off", "verdict")
        text += ["", *table(head, [_cells(one) for one in changed]), ""]
    for name, why in found.lost.items():
        text.append(f"not measured in B: {name}: {why}")
    for where, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            text.append(f"only in {where}: {_some(names)}")
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
