"""What a benchmark's report says in words: what was found, what is wrong with it, and where it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.benchmark.reading import (
    at,
    by_net,
    count,
    figure,
    items,
    machine,
    mapping,
    number,
    of_bench,
    percent,
    size,
    text,
    variant,
)
from streamseg.benchmark.report_tables import KINDS
from streamseg.benchmark.rows import Row
from streamseg.document import Table

Rows = Sequence[Row]
BUSY = 0.1
"""Share of the processor that others took, above which figures are not for publication."""
KEPT_SHARE = 0.99
"""A pace is held where so much was processed, and so much of it displayed within the budget."""


def remarks(runs: Sequence[Rows]) -> list[str]:
    """Why a run's figures are not for publication; empty where nothing speaks against it."""
    found = []
    for index, rows in enumerate(runs):
        run = rows[0].get("run")
        which = f"{name_of(index)}: " if len(runs) > 1 else ""
        commit, others = text(run, "machine", "commit"), number(run, "others_share")
        if at(run, "quick") is not False:
            found.append(f"{which}a quick run: few repeats.")
        if commit.endswith("-dirty"):
            found.append(f"{which}measured with changes that are not committed ({commit}).")
        elif not commit:
            found.append(f"{which}not measured from a commit.")
        if others is not None and others > BUSY:
            found.append(
                f"{which}other processes took {percent(others)} of the processor meanwhile; "
                f"at most {percent(BUSY)} is quiet."
            )
    return found


def name_of(index: int) -> str:
    """A run's name in a report of several."""
    return f"run {index + 1}"


def troubles(runs: Sequence[Rows]) -> list[str]:
    """Every row's notes, and what was asked for and is absent."""
    found = []
    for index, rows in enumerate(runs):
        which = f"{name_of(index)}, " if len(runs) > 1 else ""
        found += [
            f"{which}{row['bench']}, {row['key']}: {note}" for row in rows for note in items(row, "notes")
        ]
        absent = mapping(rows[0].get("run"), "absent")
        found += [f"{which}absent: {key}: {reason}" for key, reason in absent.items()]
    return found


def in_short(runs: Sequence[Rows]) -> list[str]:
    """What was found, a line for each net and each other benchmark of each run."""
    found = []
    for index, rows in enumerate(runs):
        which = f"{name_of(index)}: " if len(runs) > 1 else ""
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
        for point in dict.fromkeys(size(row) for row in every):
            own = [row for row in every if size(row) == point and number(row, "engine_fps") is not None]
            if own:
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
        lines.append(f"Pipeline, {row['key']}: {kept}, {figure(number(row, 'fps'))} frames/s, {age}.")
    return lines


def streams_in_short(rows: Rows) -> list[str]:
    """How many streams are held."""
    if not rows:
        return []
    every, budget = (
        max((number(row, "streams") or 0 for row in rows if at(row, name) is True), default=0.0)
        for name in ("holds_every_frame", "holds_budget")
    )
    most = max(number(row, "streams") or 0 for row in rows)
    pace = count(number(rows[0], "source_fps"))
    return [
        f"Of up to {count(most)} streams of {pace} frames/s side by side this machine holds {count(every)} "
        f"with every frame segmented, and {count(budget)} with the outlines within the budget."
    ]


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
        faster = [
            f"{text(row, 'name')} ({figure(1 / max(ratio, 1e-9))} times as fast)"
            for ratio, row in known
            if ratio < 1
        ]
        words = f"faster than ours: {', '.join(faster)}" if faster else "none is faster than ours"
        ratios = [ratio for ratio, _ in known]
        lines.append(
            f"Peers, {kind}: ours is {figure(min(ratios))} to {figure(max(ratios))} times as fast as the "
            f"{len(known)} that were measured; {words}."
        )
    return lines


def provenance_table(runs: Sequence[Rows]) -> Table:
    """Where each run is from, a column each; what only some runs know is a dash in the others."""
    columns = [origin(rows) for rows in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    head = ("", *(name_of(index) for index in range(len(runs)))) if len(runs) > 1 else ("", "this run")
    body = [(name, *(column.get(name, "-") for column in columns)) for name in names]
    return Table("Provenance", head, body, numbers=False)


def origin(rows: Rows) -> dict[str, str]:
    """Everything that the run says of itself."""
    run = mapping(rows[0], "run")
    found = {
        "command": text(run, "command"),
        "benchmarks": ", ".join(dict.fromkeys(text(row, "bench") for row in rows)),
        "started": text(run, "started") or text(run, "date"),
        "commit": text(run, "machine", "commit"),
        "machine": machine(run),
        "threads": text(run, "threads"),
        "took": f"{figure(number(run, 'seconds'))} s",
        "of the processor, others took": percent(number(run, "others_share"), 1),
        "source": flat(mapping(run, "source")),
        "how": flat(mapping(run, "regime")),
    }
    for kind, limit in mapping(run, "limits").items():
        unit = "GB/s" if kind == "copy" else "GFLOP/s"
        words = f"{figure(number(limit, 'giga_per_s'))} {unit}, {text(limit, 'kernel')}"
        found[f"limit: {kind}"] = words
    shown = ("commit", "processor", "gpu", "cores")
    found |= {
        name.replace("_", " "): flat(value)
        for name, value in mapping(run, "machine").items()
        if name not in shown and value not in (None, "", {}, [])
    }
    return {name: words for name, words in found.items() if words}


def flat(value: object) -> str:
    """A JSON value as words: ``rounds 5, block seconds 1``."""
    if isinstance(value, Mapping):
        known = {name: flat(item) for name, item in value.items() if item is not None}
        return ", ".join(f"{str(name).replace('_', ' ')} {words}" for name, words in known.items() if words)
    if isinstance(value, list | tuple):
        return " ".join(flat(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
