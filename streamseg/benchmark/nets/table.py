"""The nets' benchmark for people: a table for each net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.benchmark.rows import Row
from streamseg.reporting.formatting import table

HEAD = (
    "variant", "frames/s", "end to end", "p50 ms", "p99 ms", "x eager", "of limit", "found", "Dice",
    "agreement", "model MB", "peak MB", "start s",
)  # fmt: skip


def lines(rows: Sequence[Row]) -> list[str]:
    """A heading and a table for each net, then what is odd or absent."""
    text: list[str] = []
    for net in dict.fromkeys(row["net"] for row in rows):
        text += net_lines([row for row in rows if row["net"] == net])
    text += ["", *_regime(rows[0])]
    text += _notes(rows)
    return text + [f"Absent: {key}: {reason}" for key, reason in rows[0]["run"]["absent"].items()]


def net_lines(rows: Sequence[Row]) -> list[str]:
    """One net's heading and table, a line for each row."""
    points = dict.fromkeys(_point(row) for row in rows)
    untrained = (
        "" if rows[0]["trained"] else " (UNTRAINED: random weights; end to end with a made-up outline)"
    )
    one = len(points) == 1
    heading = f"{rows[0]['net']}{', ' + next(iter(points)) if one else ''}{untrained}"
    head = HEAD if one else ("input", *HEAD)
    cells = [(*(() if one else (_point(row),)), *_cells(row)) for row in rows]
    return ["", heading, "", *table(head, cells)]


def _notes(rows: Sequence[Row]) -> list[str]:
    """What is odd, each once: where it is so of several rows, their number stands for their names."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in row["notes"]:
            by_note.setdefault(note, []).append(row["key"])
    return [
        f"Note: {keys[0] if len(keys) == 1 else f'{len(keys)} of {len(rows)} rows'}: {note}"
        for note, keys in by_note.items()
    ]


def variant(row: Row) -> str:
    """``openvino int8``; ``eager fp32 as trained``."""
    return f"{row['backend']} {row['precision']}{'' if row['folded'] else ' as trained'}"


def _cells(row: Row) -> tuple[object, ...]:
    ratio, latency = row["ratio_to_eager"], row["latency_ms"]
    return (
        variant(row),
        float(row["engine_fps"]),
        row["end_to_end_fps"],
        latency["p50"],
        latency["p99"],
        ratio and f"{ratio['median']:.2f}",
        None if row["limit_share"] is None else f"{row['limit_share']:.0%}",
        ", ".join(f"{share:.0%} {kind}" for kind, share in row["precision_found"].items()) or None,
        None if row["dice"] is None else f"{row['dice']:.3f}",
        None if row["mask_agreement"] is None else f"{row['mask_agreement']:.4f}",
        row["model_bytes"] / 1e6,
        _millions(row["peak_host_bytes"]),
        row["start_s"]["warm"],
    )


def _point(row: Row) -> str:
    return f"{row['height']}x{row['width']}" + (f" batch {row['batch']}" if row["batch"] > 1 else "")


def _millions(value: Any) -> float | None:
    return None if value is None else value / 1e6


def _regime(row: Row) -> list[str]:
    """How it was measured, in words."""
    run: Mapping[str, Any] = row["run"]
    regime = run["regime"]
    text = [
        f"Frames of {run['source']['name']}; {run['threads']} threads; interleaved in up to "
        f"{regime['rounds']} rounds after {regime['warmup_calls']} calls of warm-up; every call counts. "
        f"Dice and agreement with FP32's masks on {row['dice_data']}."
    ]
    if run["others_share"] is not None:
        text.append(f"Other processes took {run['others_share']:.0%} of the processor meanwhile.")
    return text
