"""What the pipeline's benchmark says to people: its tables, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamseg.benchmark.frame_trace import in_order
from streamseg.benchmark.rows import Row
from streamseg.reporting.formatting import table

BUSY = 0.05
"""Share of the processors above which what others took is said."""


def tables(rows: Sequence[Row]) -> list[str]:
    """Markdown for people: a line per mode, their stages, and what is wrong."""
    ages = ("p50", "p95", "p99", "max")
    head = [
        "mode",
        "offered",
        "processed",
        "dropped",
        "frames/s",
        *(f"age {q}, ms" for q in ages),
        "in budget",
    ]
    counts = [
        [
            row["key"], row["offered"], row["processed"], row["dropped"], row["fps"],
            *(row["age_ms"][quantile] for quantile in ages), _percent(row["within_budget"]),
        ]
        for row in rows
    ]  # fmt: skip
    names = in_order({name for row in rows for name in row["stages_ms"]})
    stages = [[row["key"], *(_stage(row["stages_ms"].get(name)) for name in names)] for row in rows]
    lines = [
        *table(head, counts),
        "",
        "Milliseconds by stage, p50 / p99:",
        "",
        *table(["mode", *names], stages),
    ]
    others = rows[0]["run"].get("others_share") or 0
    notes = [f"- others took {others:.0%} of the processors meanwhile"] if others > BUSY else []
    notes += [f"- {row['key']}: {note}" for row in rows for note in row["notes"]]
    notes += [f"- {key} is absent: {why}" for key, why in rows[0]["run"]["absent"].items()]
    return [*lines, "", *notes] if notes else lines


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _stage(times: Mapping[str, float | None] | None) -> str | None:
    if times is None or times["p50"] is None or times["p99"] is None:
        return None
    return f"{times['p50']:.1f} / {times['p99']:.1f}"
