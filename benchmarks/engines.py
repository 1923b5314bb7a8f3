"""Speed of all three nets on the processor: engines against torch eager, and each one's share of the limit.

    python -m benchmarks.engines [--nets NET ...] [--sizes HxW ...] [--batches N ...] [--also ...] [--resume]

Regime. A point is one net at one size and batch. All its variants run in one process with the same number of
threads, interleaved (:mod:`streamseg.benchmark.measure`), on frames of a phantom video; together with them,
in every round, the kernels whose rates are the machine's limits (:mod:`streamseg.benchmark.limits`). A call
takes a float32 array (batch, 1, H, W) and gives the probability as an array; decoding and resizing are not
in it.

- Warm-up: 2 calls of each variant, and 1 before each of its blocks unless a call takes over a second; no
  other call is left out.
- Blocks of ``--block`` seconds, at least one call, in ``--rounds`` rounds; a point ends early once
  ``--budget`` seconds are over and three rounds are done. Each row says how many calls it had.
- ``x eager``: times as fast as torch eager FP32 as trained (unfolded), median over rounds of the ratio within
  a round; ``GFLOP/s`` and ``of the limit`` count the folded net's arithmetic for every variant;
  ``of bandwidth``: weights and the convolutions' inputs and outputs moved once, against the copy's rate.
- ``found``: share of the engine's layers by the type that they compute in, read off the loaded engine.
- ``peak MB``: of a process that does nothing but load that variant and run it.

Engines come from the export's builders; INT8 is calibrated on a few phantoms, which is enough for speed and
says nothing about accuracy. Nets that no weights are shipped for have random ones, and the table says so.
torch's variants have random weights throughout: what they cost does not depend on them.

Each point is written as soon as it is done, and can be interrupted; ``--resume`` keeps the points that the
file has.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine_table import lines, make_row
from benchmarks.engine_variants import ALSO, Point, Variant, calibration, make_variants, peak_memory
from streamseg.benchmark.flops import work_of
from streamseg.benchmark.limits import limits, processor_kernels
from streamseg.benchmark.measure import Timing, calls_for, interleave, seconds_of
from streamseg.benchmark.provenance import ROOT, Bystanders, machine_name, provenance
from streamseg.benchmark.results import read_result, write_result
from streamseg.checkpoint import NETS
from streamseg.export.source import resolve

PACKAGES = ("torch", "openvino", "nncf", "onnxruntime", "numpy")
LEAST_ROUNDS = 3
SLOW_S = 1.0
"""Calls that take longer get no call that does not count before their blocks."""


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parse(arguments)
    stem = options.out / f"{options.date}-{machine_name(gpu=False)}-engines"
    path = stem.with_name(stem.name + ".json")
    result = read_result(path) if options.resume else {}
    if not result:
        result = start(options)
    done = {point["name"] for point in result["points"]}
    points = [
        Point(net, height, width, batch)
        for height, width in options.sizes
        for batch in options.batches
        for net in options.nets
        if str(Point(net, height, width, batch)) not in done
    ]
    for number, point in enumerate(points):
        say(f"{point} ({number + 1} of {len(points)})")
        try:
            context, rows = measure(point, options)
        except KeyboardInterrupt:
            say(f"stopped after {len(result['points'])} points; --resume goes on from {path}")
            raise SystemExit(130) from None
        result["points"].append(context)
        result["rows"] += rows
        write_result(stem, result, lines(result))
    print("\n".join(lines(result)))
    say(f"wrote {path} and .md")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", default=["improved_unet", "unet", "segnet"], choices=NETS)
    parser.add_argument("--sizes", nargs="+", type=size, default=[(192, 256), (256, 320), (416, 576)])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--also", nargs="+", default=[], choices=ALSO)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--block", type=float, default=0.5, help="seconds of a block")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of a point's measuring")
    parser.add_argument("--frames", type=int, default=8, help="phantoms that INT8 is calibrated on")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--resume", action="store_true", help="keep the points that the result has")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="in the result's name")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def size(text: str) -> tuple[int, int]:
    """HxW."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 192x256")
    return int(found[1]), int(found[2])


def start(options: argparse.Namespace) -> dict[str, Any]:
    """A result without points: where it is from, and the limits before anything else runs."""
    say("measuring the machine's limits")
    kernels = processor_kernels(options.threads)
    timings = interleave({k.name: k.call for k in kernels}, rounds=5, per_round=3, lead_in=1)
    return {
        "what": "engines on the processor",
        **provenance(packages=PACKAGES),
        "threads": options.threads,
        "rounds": options.rounds,
        "block_seconds": options.block,
        "budget_seconds": options.budget,
        "calibration": f"{options.frames} phantoms",
        "limits": {kind: limit.to_json() for kind, limit in limits(kernels, timings).items()},
        "points": [],
        "rows": [],
    }


def measure(point: Point, options: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A point's context and rows."""
    torch.set_num_threads(options.threads)
    checkpoint = resolve(point.net, (point.height, point.width))
    work = work_of(point.net, point.height, point.width, batch=point.batch)
    kernels = processor_kernels(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        variants, absent = make_variants(
            point, checkpoint, calibration(options.frames), Path(scratch), options.threads, options.also, say
        )
        began = time.monotonic()
        with Bystanders() as bystanders:
            timings = time_all(variants, {k.name: k.call for k in kernels}, options)
        seconds = time.monotonic() - began
        found = limits(kernels, timings)
        rows = []
        for name, variant in variants.items():
            row = make_row(point, name, variant, timings, work, found, kernels)
            row["trained"] = checkpoint.trained
            row["peak_bytes"] = None if options.no_memory else peak_memory(variant, options.threads)
            rows.append(row)
            say(f"{name}: {row['latency_ms']['p50']:.1f} ms, {row['ratio_to_eager']['median']:.2f} x eager")
    context = {
        "name": str(point),
        "limits": {kind: limit.to_json() for kind, limit in found.items()},
        "others_share": bystanders.share,
        "seconds": round(seconds, 1),
        "absent": absent,
        "commit": provenance()["machine"]["commit"],
    }
    return context, rows


def time_all(
    variants: dict[str, Variant], kernels: dict[str, Callable[[], object]], options: argparse.Namespace
) -> dict[str, Timing]:
    """Time the variants and the limit's kernels together."""
    calls = {name: variant.call for name, variant in variants.items()} | kernels
    first = {name: seconds_of(call) for name, call in calls.items()}  # 2 calls, the warm-up
    return interleave(
        calls,
        rounds=options.rounds,
        per_round={
            name: calls_for(seconds, options.block if name in variants else options.block / 3)
            for name, seconds in first.items()
        },
        warmup=0,
        lead_in={name: int(seconds <= SLOW_S) for name, seconds in first.items()},
        budget_s=options.budget,
        least_rounds=LEAST_ROUNDS,
    )


def say(line: str) -> None:
    """Progress, with the time: a whole table takes long."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped run still tidies up
    main()
