"""Where a report's runs are from, and what speaks against publishing their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamseg.benchmark.report.reading import at, machine, mapping, number, run_name, text
from streamseg.benchmark.rows import Row
from streamseg.reporting.document import Table
from streamseg.reporting.formatting import UNKNOWN, count, figure, percent

Rows = Sequence[Row]
BUSY = 0.1
"""Share of the processor that others took, above which figures are not for publication."""


def remarks(runs: Sequence[Rows]) -> list[str]:
    """Why a run's figures are not for publication; empty where nothing speaks against it."""
    found = []
    for index, rows in enumerate(runs):
        run = rows[0].get("run")
        which = f"{run_name(index)}: " if len(runs) > 1 else ""
        commit, others = text(run, "machine", "commit"), number(run, "others_share")
        if at(run, "quick") is True:
            found.append(f"{which}A quick run: few repeats.")
        if commit.endswith("-dirty"):
            found.append(f"{which}MeasuredVariant with changes that are not committed ({commit}).")
        elif not commit:
            found.append(f"{which}Not measured from a commit.")
        if others is not None and others > BUSY:
            found.append(
                f"{which}Other processes took {percent(others)} of the processor meanwhile; "
                f"at most {percent(BUSY)} is quiet."
            )
    return found


def provenance_tables(runs: Sequence[Rows]) -> list[Table]:
    """Where the runs are from: what they have in common, and a column for each with what they have not."""
    columns = [origin(rows) for rows in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    values = {name: [column.get(name, UNKNOWN) for column in columns] for name in names}
    own = {name: found for name, found in values.items() if len(set(found)) > 1}
    common = [(name, found[0]) for name, found in values.items() if name not in own]
    tables = [Table("This run" if len(runs) == 1 else "All runs", ("", ""), common, numbers=False)]
    if own:
        head = ("", *(run_name(index) for index in range(len(runs))))
        rows = [(name, *found) for name, found in own.items()]
        tables.insert(0, Table("Each run", head, rows, numbers=False))
    return tables


def origin(rows: Rows) -> dict[str, str]:
    """Everything that the run says of itself."""
    run = mapping(rows[0], "run")
    found = {
        "command": text(run, "command"),
        "file": text(run, "file"),
        "benchmarks": ", ".join(dict.fromkeys(text(row, "bench") for row in rows)),
        "started": text(run, "started") or text(run, "date"),
        "commit": text(run, "machine", "commit"),
        "machine": machine(run),
        "threads": text(run, "threads"),
        "took": "" if number(run, "seconds") is None else f"{figure(number(run, 'seconds'))} s",
        "of the processor, others took": percent(number(run, "others_share"), 1),
        "source": flat(mapping(run, "source")),
        "how": flat(mapping(run, "regime")),
    }
    for kind, limit in mapping(run, "limits").items():
        unit = "GB/s" if kind == "copy" else "GFLOP/s"
        words = f"{figure(number(limit, 'giga_per_s'))} {unit}, {text(limit, 'kernel')}"
        found[f"limit: {kind}"] = words
    shown = ("commit", "processor", "gpu", "cores")
    found |= dict(
        named(str(name), value) for name, value in mapping(run, "machine").items() if name not in shown
    )
    return {name: words for name, words in found.items() if words not in ("", UNKNOWN)}


def named(name: str, value: object) -> tuple[str, str]:
    """A JSON value's name and words; bytes become MB."""
    if name.endswith("_bytes") and (size := number(value)) is not None:
        return name.removesuffix("_bytes").replace("_", " "), f"{count(size / 1e6)} MB"
    words = "power and clocks" if name == "power" else name.replace("_", " ")
    return words, "" if value is None else flat(value)


def flat(value: object) -> str:
    """A JSON value as words: ``rounds 5, block seconds 1``."""
    if isinstance(value, Mapping):
        known = [named(str(name), item) for name, item in value.items() if item is not None]
        return ", ".join(f"{name} {words}" for name, words in known if words)
    if isinstance(value, list | tuple):
        return " ".join(flat(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
