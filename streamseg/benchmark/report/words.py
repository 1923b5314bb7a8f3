"""What a benchmark's report says in words: what was found, what is wrong with it, and where it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.benchmark.report.reading import (
    at,
    by_net,
    by_size,
    items,
    mapping,
    number,
    of_bench,
    run_name,
    text,
    variant,
)
from streamseg.benchmark.report.tables import KINDS
from streamseg.benchmark.rows import Row
from streamseg.reporting.formatting import count, figure, percent

Rows = Sequence[Row]
KEPT_SHARE = 0.99
"""A pace is held where so much was processed, and so much of it displayed within the budget."""


def troubles(runs: Sequence[Rows]) -> list[str]:
    """Every row's notes, and what was asked for and is absent."""
    found = []
    for index, rows in enumerate(runs):
        which = f"{run_name(index)}, " if len(runs) > 1 else ""
        found += [
            f"{which}{row['bench']}, {row['key']}: {note}" for row in rows for note in items(row, "notes")
        ]
        absent = mapping(rows[0].get("run"), "absent")
        found += [f"{which}absent: {key}: {reason}" for key, reason in absent.items()]
    return found


def in_short(runs: Sequence[Rows]) -> list[str]:
    """What was found, a line for each net and each other benchmark of each run."""
    found = []
    benches = [{text(row, "bench") for row in rows} for rows in runs]
    unique = sum(map(len, benches)) == len(set().union(*benches))
    for index, rows in enumerate(runs):
        which = "" if unique else f"{run_name(index)}: "
        lines = [
            *nets_in_short(of_bench(rows, "nets")),
            *pipeline_in_short(of_bench(rows, "pipeline")),
            *streams_in_short(of_bench(rows, "streams")),
            *peers_in_short(of_bench(rows, "peers")),
        ]
        found += [which + line for line in lines]
    return found


def nets_in_short(rows: Rows) -> list[str]:
    """The fastest variant of each net at each size, and which paces it holds."""
    lines = []
    for net, every in by_net(rows):
        for point, own in by_size(row for row in every if number(row, "engine_fps") is not None):
            best = max(own, key=lambda row: number(row, "engine_fps") or 0.0)
            lines.append(net_sentence(f"{net} at {point}", best))
    return lines


def net_sentence(name: str, row: Row) -> str:
    """``SegNet at 192x224 is fastest on OpenVINO INT8: 25 frames/s ...``."""
    words = [f"{figure(number(row, 'engine_fps'))} frames/s by the engine alone"]
    if (end_to_end := number(row, "end_to_end_fps")) is not None:
        words.append(f"{figure(end_to_end)} from the encoded file to the drawn outline")
    if (ratio := number(row, "ratio_to_eager", "median")) is not None:
        words.append(f"{figure(ratio)} times as fast as torch eager FP32 as trained")
    paces = " ".join(pace_sentence(pace) for pace in items(row, "paced") if mapping(pace))
    return f"{name} is fastest in {variant(row)}: {', '.join(words)}. {paces}".strip()


def pace_sentence(pace: Mapping[str, Any]) -> str:
    """``Live it holds 30 frames/s (...).``, or what becomes of them."""
    fps = count(number(pace, "fps"))
    offered, processed, within = (number(pace, name) for name in ("offered", "processed", "within_budget"))
    if not offered or processed is None:
        return ""
    dropped = 1 - processed / offered
    on_time = "" if within is None else f", {percent(within, 1)} of the outlines within the budget"
    if dropped <= 1 - KEPT_SHARE and within is not None and within >= KEPT_SHARE:
        return f"Live it holds {fps} frames/s{on_time}."
    return f"Live at {fps} frames/s it drops {percent(dropped)}{on_time}."


def pipeline_in_short(rows: Rows) -> list[str]:
    """A sentence per mode."""
    lines = []
    for row in rows:
        kept = f"{count(number(row, 'processed'))} of {count(number(row, 'offered'))} frames"
        age = f"age {figure(number(row, 'age_ms', 'p50'))} ms (p99 {figure(number(row, 'age_ms', 'p99'))})"
        within = number(row, "within_budget")
        on_time = "" if within is None else f", {percent(within, 1)} within the budget"
        lines.append(
            f"Pipeline, {text(row, 'key')}: {kept}, {figure(number(row, 'fps'))} frames/s, {age}{on_time}."
        )
    return lines


def streams_in_short(rows: Rows) -> list[str]:
    """How many streams are held."""
    if not rows:
        return []
    every, budget = (held(rows, name) for name in ("holds_every_frame", "holds_budget"))
    most = max(number(row, "streams") or 0 for row in rows)
    pace = count(number(rows[0], "source_fps"))
    return [
        f"Of up to {count(most)} streams of {pace} frames/s side by side this machine holds {count(every)} "
        f"with every frame segmented, and {count(budget)} with the outlines within the budget."
    ]


def held(rows: Rows, name: str) -> float:
    """The largest number of streams up to which every one is held; 0 where the first is not."""
    streams = 0.0
    for row in sorted(rows, key=lambda row: number(row, "streams") or 0.0):
        if at(row, name) is not True:
            break
        streams = number(row, "streams") or 0.0
    return streams


def peers_in_short(rows: Rows) -> list[str]:
    """How many peers ours is faster than, and which are faster than ours."""
    lines = []
    for kind in KINDS:
        known = [
            (ratio, row)
            for row in rows
            if text(row, "kind") == kind and at(row, "ours") is not True
            and (ratio := number(row, "ratio", "median")) is not None
        ]  # fmt: skip
        if not known:
            continue
        ratios = [ratio for ratio, _ in known]
        faster = [
            f"{text(row, 'name')} ({figure(1 / max(ratio, 1e-9))} times as fast)"
            for ratio, row in known
            if ratio < 0.995
        ]
        lines.append(
            f"Peers, {kind}: ours is {figure(min(ratios))} to {figure(max(ratios))} times as fast as the "
            f"{len(known)} that were measured; faster than ours: {', '.join(faster) or 'none'}."
        )
    return lines
