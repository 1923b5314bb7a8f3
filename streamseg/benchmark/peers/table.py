"""Peers for people: a small table per kind, the fastest first."""

from __future__ import annotations

from collections.abc import Sequence

from streamseg.benchmark.report.reading import spread
from streamseg.benchmark.rows import Row
from streamseg.reporting.formatting import table

TITLES = {
    "runtime": "The same weights in other runtimes, one frame at a time",
    "pipeline": "From a clip's file to its outlines, with the same engine",
    "net": "Other nets at the same input, one frame at a time",  # in results until 2026-11
}


def peers_lines(rows: Sequence[Row]) -> list[str]:
    """Lines of Markdown: the tables, what is wrong with which row, and what is absent."""
    lines: list[str] = []
    for kind, title in TITLES.items():
        own = sorted((row for row in rows if row["kind"] == kind), key=lambda row: -row["fps"])
        if own:
            lines += [f"{title}:", "", *(_calls(own) if kind != "pipeline" else _runs(own)), ""]
    lines += [f"- {row['name']}: {note}" for row in rows for note in row["notes"]]
    absent = rows[0]["run"]["absent"] if rows else {}
    lines += [f"- absent: {name} ({reason})" for name, reason in absent.items()]
    return lines[:-1] if lines and not lines[-1] else lines


def _calls(rows: Sequence[Row]) -> list[str]:
    head = ["", "precision", "frames/s", "p50, ms", "p99", "ours is x times as fast", "why"]
    return table(
        head,
        [
            [
                _name(row),
                row["precision"],
                row["fps"],
                row["latency_ms"]["p50"],
                row["latency_ms"]["p99"],
                spread(row, "ratio"),
                row["why"],
            ]
            for row in rows
        ],
    )


def _runs(rows: Sequence[Row]) -> list[str]:
    head = ["", "precision", "frames/s", "frames", "processor ms", "ours is x times as fast", "what it does"]
    return table(
        head,
        [
            [
                _name(row),
                row["precision"],
                row["fps"],
                f"{row['delivered']} of {row['frames']}",
                row["processor_ms"],
                spread(row, "ratio"),
                row["settings"],
            ]
            for row in rows
        ],
    )


def _name(row: Row) -> str:
    return f"**{row['name']}** (ours)" if row["ours"] else str(row["name"])
