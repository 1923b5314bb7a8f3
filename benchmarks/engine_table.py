"""Rows, goals and tables of :mod:`benchmarks.engines`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.engine_variants import PLAIN, Point, Variant
from streamseg.benchmark.flops import Work
from streamseg.benchmark.limits import Kernel, Limit
from streamseg.benchmark.measure import Spread, Timing, speedup
from streamseg.benchmark.results import table

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


def make_row(  # noqa: PLR0917
    point: Point,
    name: str,
    variant: Variant,
    timings: Mapping[str, Timing],
    work: Work,
    found: Mapping[str, Limit],
    kernels: Sequence[Kernel],
) -> dict[str, Any]:
    """One variant at one point. ``work`` is the folded net's, also for a net as trained: the same result."""
    timing = timings[name]
    size = BYTES[variant.precision]
    seconds = timing.median_ms / 1e3
    limit = found.get(variant.precision)
    share = None if limit is None else limit_share(timing, work, limit, timings, kernels).to_json()
    return {
        "net": point.net,
        "variant": name,
        "backend": variant.backend,
        "precision": variant.precision,
        "precision_found": {kind: round(value, 4) for kind, value in variant.precision_found.items()},
        "folded": variant.folded,
        "height": point.height,
        "width": point.width,
        "batch": point.batch,
        "latency_ms": timing.percentiles.to_json(),
        "engine_fps": round(point.batch * timing.rate, 3),
        "ratio_to_eager": speedup(timing, timings[PLAIN]).to_json(),
        "gflop_per_s": round(work.flop / seconds / 1e9, 2),
        "limit_share": share,
        "bandwidth_share": round(work.bytes(size, size) / seconds / found["copy"].rate, 4),
        "model_bytes": variant.model_bytes,
        "calls": len(timing.durations_ns),
        "rounds": len(timing.rounds_ns),
        "durations_ms": [[round(ns / 1e6, 3) for ns in block] for block in timing.rounds_ns],
    }


def limit_share(
    timing: Timing, work: Work, limit: Limit, timings: Mapping[str, Timing], kernels: Sequence[Kernel]
) -> Spread:
    """Share of the limit's kernel's rate in the same round, 0..1."""
    kernel = next(kernel for kernel in kernels if kernel.name == limit.kernel)
    pairs = zip(timing.medians_ms, timings[limit.kernel].medians_ms, strict=True)
    return Spread.of([(work.flop / own) / (kernel.work / other) for own, other in pairs])


def lines(result: Mapping[str, Any]) -> list[str]:
    """The tables for people."""
    machine = result["machine"]
    text = [
        f"# Engines on {machine['processor']}, {result['threads']} threads ({result['date']}, "
        f"commit {machine['commit']})",
        "",
        "Every ratio and share is the median over rounds of one interleaved run of that net, size and batch; "
        "the regime is described in `benchmarks/engines.py`. Arithmetic is that of the folded net, for all.",
        "",
        "## The machine's limits in the same run",
        "",
        *limit_lines(result),
    ]
    for net in dict.fromkeys(row["net"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["net"] == net]
        text += [
            "",
            f"## {net}{'' if rows[0]['trained'] else ' (UNTRAINED: random weights)'}",
            "",
            *net_lines(rows),
        ]
    return [*text, "", "## Goals", "", *goal_lines(result["rows"]), "", *context_lines(result["points"])]


def limit_lines(result: Mapping[str, Any]) -> list[str]:
    """The limits of the run's beginning, and their spread over the points."""
    rows = []
    for kind, limit in result["limits"].items():
        later = [point["limits"][kind]["giga_per_s"] for point in result["points"] if kind in point["limits"]]
        spread = f"{min(later):.0f} to {max(later):.0f}" if later else None
        unit = "GB/s" if kind == "copy" else "GFLOP/s"
        rows.append((kind, f"{limit['giga_per_s']:.0f} {unit}", limit["kernel"], spread))
    return table(("kind", "at the start", "by", "at the points"), rows)


def net_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One net's table."""
    head = (
        "size", "batch", "variant", "ms, median", "ms, p99", "frames/s", "x eager", "GFLOP/s", "of the limit",
        "of bandwidth", "found", "model MB", "peak MB", "calls",
    )  # fmt: skip
    return table(
        head,
        [
            (
                f"{row['height']}x{row['width']}",
                row["batch"],
                row["variant"],
                row["latency_ms"]["p50"],
                row["latency_ms"]["p99"],
                row["engine_fps"],
                f"{row['ratio_to_eager']['median']:.2f}",
                row["gflop_per_s"],
                None if row["limit_share"] is None else f"{row['limit_share']['median']:.0%}",
                f"{row['bandwidth_share']:.0%}",
                ", ".join(f"{share:.0%} {kind}" for kind, share in row["precision_found"].items()),
                row["model_bytes"] / 1e6,
                None if row["peak_bytes"] is None else row["peak_bytes"] / 1e6,
                row["calls"],
            )
            for row in rows
        ],
    )


@dataclass(frozen=True, slots=True)
class Goal:
    """What a variant is to reach at 192x256, batch 1."""

    net: str
    variant: str
    figure: str
    least: float
    words: str


GOALS = (
    Goal("improved_unet", "openvino int8", "ratio_to_eager", 6.0, "INT8 at least 6 x eager"),
    Goal("improved_unet", "openvino fp32", "limit_share", 0.9, "FP32 at least 0.9 of the limit"),
    Goal("segnet", "openvino int8", "ratio_to_eager", 4.0, "INT8 at least 4 x eager"),
)


def goal_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each goal, and what was measured."""
    found: list[tuple[str, str, str | None]] = []
    for goal in GOALS:
        key = (goal.net, goal.variant, 192, 256, 1)
        values = [row[goal.figure] for row in rows if _key(row) == key and row[goal.figure] is not None]
        words = f"{goal.net}, 192x256, batch 1: {goal.words}"
        if not values:
            found.append((words, "not measured", None))
            continue
        value = values[0]
        text = f"{value['median']:.2f} ({value['min']:.2f} to {value['max']:.2f})"
        found.append((words, text, "met" if value["median"] >= goal.least else "missed"))
    return table(("goal", "median (least to most) over rounds", ""), found)


def _key(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("net", "variant", "height", "width", "batch"))


def context_lines(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """How quiet the machine was, and what is missing."""
    shares = [point["others_share"] for point in points if point["others_share"] is not None]
    text = []
    if shares:
        text.append(
            f"Other processes took {statistics.median(shares):.0%} of the processor (median over the points; "
            f"at most {max(shares):.0%})."
        )
    for point in points:
        for name, reason in point["absent"].items():
            text.append(f"Absent at {point['name']}: {name}: {reason}")
    return text
