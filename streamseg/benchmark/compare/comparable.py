"""Whether two runs can be compared: what of the machine and of how they measured differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamseg.benchmark.compare.single import number
from streamseg.benchmark.rows import Row

MACHINE = ("processor", "cores", "features", "gpu", "compute_capability", "driver")
PASSING = ("load", "commit", "power", "last_level_cache_bytes")
"""Of a machine: what differs between any two runs, or follows from the rest."""
POWER = ("governor", "boost", "supply", "hypervisor", "memory_bytes")
GPU_POWER = ("persistence_mode", "power_limit_w", "slowed_by")
BUSY = 0.1
"""Share of the cores that others may take before a run is no longer of this program alone."""
LONG = 60
"""Characters of a value that are shown."""


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two rows' ``run``, a line each: their figures are then not comparable."""
    silent = [name for name, run in (("A", a), ("B", b)) if not part(run, "machine")]
    if len(silent) == 1:
        found = [f"{silent[0]} does not say on what machine and how it was measured"]
    else:
        found = [f"{what} differs: {', '.join(changes)}" for what, changes in _groups(a, b) if changes]
    for name, run in (("A", a), ("B", b)):
        share = number(run.get("others_share")) or 0.0
        if share > BUSY:
            found.append(f"others took {share:.0%} of the machine in {name}".replace("%", " %"))
        if run.get("stopped"):
            found.append(f"run {name} was stopped before its end")
    return found


def _groups(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    machines = part(a, "machine"), part(b, "machine")
    yield "the machine", _differing(*machines, MACHINE)
    versions = sorted((machines[0].keys() | machines[1].keys()) - {*MACHINE, *PASSING})
    yield "the software", _differing(*machines, versions)
    powers = part(machines[0], "power"), part(machines[1], "power")
    if all(powers):  # older results do not say
        gpus = part(powers[0], "gpu"), part(powers[1], "gpu")
        yield "the power state", _differing(*powers, POWER) + _differing(*gpus, GPU_POWER)
    sources = part(a, "source"), part(b, "source")
    # Where it lies does not matter, what it holds does; the default's folder is another one each time.
    yield "the source", _differing(*sources, sorted((sources[0].keys() | sources[1].keys()) - {"uri"}))
    regimes = part(a, "regime"), part(b, "regime")
    changes = _differing(*regimes, sorted(regimes[0].keys() | regimes[1].keys()))
    yield "how it was measured", _differing(a, b, ("quick", "threads")) + changes


def busy(*runs: Mapping[str, Any]) -> bool:
    """Whether others took much of the machine in any of these runs, as far as they say."""
    return any((number(run.get("others_share")) or 0.0) > BUSY for run in runs)


def engines_differ(a: Row, b: Row) -> bool:
    """Whether two rows are of engines that are known to be different files."""
    engines = part(a, "engine").get("sha256"), part(b, "engine").get("sha256")
    return None not in engines and engines[0] != engines[1]


def machine_ratio(a: Row, b: Row) -> float | None:
    """How many times as fast the machine itself was in B, by its measured limits; None where not measured.

    By the limit of the row's own kind, else the median over the kinds that both runs measured.
    """
    own = part(a, "limit"), part(b, "limit")
    if own[0] and own[0].get("kind") == own[1].get("kind"):
        ratio = _rate_ratio(*own)
        if ratio is not None:
            return ratio
    limits = part(a["run"], "limits"), part(b["run"], "limits")
    shared = limits[0].keys() & limits[1].keys()
    ratios = sorted(
        ratio for kind in shared if (ratio := _rate_ratio(limits[0][kind], limits[1][kind])) is not None
    )
    return ratios[len(ratios) // 2] if ratios else None


def _rate_ratio(a: Any, b: Any) -> float | None:
    rates = [number(limit.get("giga_per_s")) if isinstance(limit, Mapping) else None for limit in (a, b)]
    return rates[1] / rates[0] if rates[0] and rates[1] and min(rates[0], rates[1]) > 0 else None


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping within another; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], names: Any) -> list[str]:
    return [
        f"{name} {_short(a.get(name))} -> {_short(b.get(name))}"
        for name in names
        if a.get(name) != b.get(name)
    ]


def _short(value: object) -> str:
    text = "unknown" if value is None else " ".join(str(value).split())
    return text if len(text) <= LONG else text[:LONG] + "..."
