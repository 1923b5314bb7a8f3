"""What a benchmark of streams says to people: its table, and how many streams the machine holds."""

from __future__ import annotations

from collections.abc import Sequence

from streamseg.benchmark.rows import Row
from streamseg.reporting.formatting import table

BUSY = 0.05
"""Share of the processors above which what others took is said."""


def verdict(rows: Sequence[Row]) -> str:
    """How many streams the machine holds, in words: the largest number up to which every one is."""
    every, within = (_largest(rows, name) for name in ("holds_every_frame", "holds_budget"))
    budget, most = rows[0]["budget_ms"], rows[-1]["streams"]
    if within is None:
        return f"holds no stream within {budget:g} ms at {rows[0]['source_fps']:g} frames/s"
    least = min(stream["displayed_fps"] for stream in within["per_stream"])
    more = "; more were not tried" if within["streams"] == most else ""
    return (
        f"holds {every['key'] if every else 'no stream'} of {within['source_fps']:g} frames/s with "
        f"every frame segmented, and {within['streams']} within {budget:g} ms (each with {least:.1f} "
        f"outlines a second on display, or more){more}"
    )


def streams_lines(rows: Sequence[Row]) -> list[str]:
    """The table and the answer, Markdown."""
    engine = rows[0]["engine"]
    head = (
        "streams", "segmented/s", "dropped", "age p50 ms", "age p99 ms", "in time, worst stream",
        "processor", "frames per call", "held",
    )  # fmt: skip
    cells = [
        (
            row["streams"],
            row["processed_fps"],
            f"{row['dropped'] / max(1, row['offered']):.0%}",
            row["age_ms"]["p50"],
            row["age_ms"]["p99"],
            f"{row['within_budget']:.1%}",
            None if row["processor_share"] is None else f"{row['processor_share']:.0%}",
            row["batch_fill"],
            _held(row),
        )
        for row in rows
    ]
    absent = [f"- {key} absent: {reason}" for key, reason in rows[0]["run"]["absent"].items()]
    notes = [f"- {row['key']}: {note}" for row in rows for note in row["notes"]]
    undrawn = "" if rows[0]["run"]["regime"].get("drawn", True) else ", nothing drawn"
    title = f"Streams of {rows[0]['source_fps']:g} frames/s, engine {engine['name']}{undrawn}"
    others = rows[0]["run"]["others_share"]
    busy = [f"- others took {others:.0%} of the processors meanwhile"] if (others or 0) > BUSY else []
    more = [*busy, *absent, *notes]
    return [
        title,
        "",
        *table(head, cells),
        "",
        *more,
        *([""] if more else []),
        f"This machine {verdict(rows)}.",
    ]


def _held(row: Row) -> str:
    if not row["holds_budget"]:
        return "no"
    return "every frame" if row["holds_every_frame"] else "within the budget"


def _largest(rows: Sequence[Row], name: str) -> Row | None:
    found = None
    for row in rows:
        if not row[name]:
            break
        found = row
    return found
