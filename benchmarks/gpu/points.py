"""The speed of a net at one size and batch: all variants, interleaved, against the limits of the same run."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.gpu.variants import Absent, Point, Variant, batched, make, phantoms
from streamseg.benchmark.flops import work_of
from streamseg.benchmark.limits import GPU_COPY_BYTES, GPU_SIDE, gpu_kernels, gpu_synchronize, limits
from streamseg.benchmark.rotation import Rotation, reraise
from streamseg.benchmark.timing import calls_for, interleave, seconds_of, speedup
from streamseg.nets import build_net, fold

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Of a number, by precision."""
FRAMES = 16
"""Different frames that a variant is fed in turn."""


def measure_limits(device: str, *, tiny: bool) -> dict[str, Any]:
    """The matrix rates and the bandwidth, in FLOP and bytes per second."""
    side, copied = (64, 2**16) if tiny else (GPU_SIDE, GPU_COPY_BYTES)
    kernels = gpu_kernels(device=device, side=side, copy_bytes=copied)
    timings = interleave(
        {kernel.name: kernel.call for kernel in kernels},
        rounds=3 if tiny else 10,
        per_round=3,
        warmup=3,
        synchronize=gpu_synchronize(device),
    )
    found = limits(kernels, timings)
    return {
        kind: {"giga_per_s": limit.rate / 1e9, "kernel": limit.kernel, "calls": 3 * (3 if tiny else 10)}
        for kind, limit in found.items()
    }


def device_times(
    calls: Mapping[str, Callable[[], object]], device: str, *, rounds: int, block_s: float
) -> dict[str, list[float]]:
    """Milliseconds per call on the device, one figure per round, the variants interleaved.

    On a GPU between two events around a block of calls, so that the processor's part is outside where the
    device has more to do; without one by the clock.
    """
    wait = gpu_synchronize(device)
    counts = {
        name: calls_for(seconds_of(call, warmup=2, synchronize=wait), block_s) for name, call in calls.items()
    }
    rotation: Rotation[float] = Rotation(calls, on_failure=reraise)
    rotation.run(lambda name: _block_ms(calls[name], counts[name], device, wait), rounds)
    return rotation.results


def _block_ms(call: Callable[[], object], count: int, device: str, wait: Callable[[], object]) -> float:
    call()
    wait()
    if not device.startswith("cuda"):
        began = time.monotonic_ns()
        for _ in range(count):
            call()
        return (time.monotonic_ns() - began) / 1e6 / count
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(count):
        call()
    end.record()
    wait()
    return float(start.elapsed_time(end)) / count


def measure_point(
    point: Point, names: Sequence[str], limits_found: Mapping[str, Any], *, rounds: int, block_s: float
) -> dict[str, Any]:
    """Rows of all variants of a point, by name; those that are absent with the reason.

    ``ratio_fp16`` is how many times as fast as eager FP16 it is, end to end, over the rounds.
    """
    made = list(make(point, names))
    rows: dict[str, Any] = {v.name: {"absent": v.reason} for v in made if isinstance(v, Absent)}
    variants = [v for v in made if isinstance(v, Variant)]
    try:
        ready: list[Variant] = []
        inputs = batched(phantoms(FRAMES), point.batch)
        for variant in variants:  # one that fails must not take the others with it
            try:
                variant.mask(inputs[0])
                variant.net_call()
                ready.append(variant)
            except Exception as error:
                rows[variant.name] = {"absent": " ".join(str(error).split())[:300]}
        if ready:
            rows |= _measure(point, ready, inputs, limits_found, rounds=rounds, block_s=block_s)
    finally:
        for variant in variants:
            variant.close()
        if point.device.startswith("cuda"):
            torch.cuda.empty_cache()
    spec = point.checkpoint.spec
    return {
        "net": point.checkpoint.net,
        "trained": point.checkpoint.trained,
        "size": [spec.height, spec.width],
        "batch": point.batch,
        "variants": rows,
    }


def _measure(
    point: Point,
    variants: Sequence[Variant],
    inputs: Sequence[Any],
    limits_found: Mapping[str, Any],
    *,
    rounds: int,
    block_s: float,
) -> dict[str, Any]:
    calls = {variant.name: _in_turn(variant, inputs) for variant in variants}
    counts = {name: calls_for(seconds_of(call, warmup=2), block_s) for name, call in calls.items()}
    timings = interleave(calls, rounds=rounds, per_round=counts, warmup=3, lead_in=1)
    nets = device_times({v.name: v.net_call for v in variants}, point.device, rounds=rounds, block_s=block_s)
    base = timings.get("eager-fp16") or timings.get("eager-bf16")
    spec = point.checkpoint.spec
    work = work_of(point.checkpoint.net, spec.height, spec.width, batch=point.batch)
    numbers = work.parameters + activations_of(point.checkpoint.net, *point.shape)
    rows = {}
    for variant in variants:
        timing, device_ms = timings[variant.name], statistics.median(nets[variant.name])
        rate = work.flop / (device_ms / 1e3)
        size = BYTES[variant.precision]
        moved = size * numbers / (device_ms / 1e3)
        kind = "fp16" if variant.precision == "int8" else variant.precision
        spread = timing.percentiles
        rows[variant.name] = {
            "precision": variant.precision,
            "found": variant.found,
            "build_s": round(variant.build_s, 2),
            "calls": len(timing.durations_ns),
            "end_to_end_ms": {
                "median": round(spread.p50_ms, 4),
                "p99": round(spread.p99_ms, 4),
                "max": round(spread.max_ms, 4),
            },
            "frames_per_s": round(point.batch * timing.rate, 1),
            "ratio_fp16": None if base is None else speedup(timing, base).to_json(),
            "device_ms": round(device_ms, 5),
            "device_ms_rounds": [round(ms, 5) for ms in nets[variant.name]],
            "tflop_per_s": round(rate / 1e12, 2),
            "of_matrix_rate": _share(rate, limits_found.get(kind)),
            "of_bandwidth": _share(moved, limits_found.get("copy")),
        }
    return rows


def activations_of(net: str, *shape: int) -> int:
    """Numbers that the folded net's convolutions read and write for an input, each input and output once.

    What lies between them (pooling, up-sampling, merging) is not counted: compilers fuse it, more or less.
    """
    found = []
    with torch.device("meta"), torch.no_grad():
        model = fold(build_net(net).eval())
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.register_forward_hook(
                    lambda _, inputs, output: found.append(inputs[0].numel() + output.numel())
                )
        model(torch.empty(shape))
    return sum(found)


def _share(rate: float, limit: Mapping[str, Any] | None) -> float | None:
    return None if limit is None else round(rate / (limit["giga_per_s"] * 1e9), 4)


def _in_turn(variant: Variant, inputs: Sequence[Any]) -> Callable[[], object]:
    """Calls with one input after another."""
    endless = itertools.cycle(inputs)
    return lambda: variant.mask(next(endless))


def compare_nets(first: Point, second: Point, name: str, *, rounds: int, block_s: float) -> dict[str, Any]:
    """Time of the first point's net / that of the second's, end to end, by one variant, interleaved."""
    made = [next(iter(make(point, [name]))) for point in (first, second)]
    absent = [found.reason for found in made if isinstance(found, Absent)]
    if absent:
        return {"variant": name, "absent": absent[0]}
    variants = [found for found in made if isinstance(found, Variant)]
    inputs = batched(phantoms(FRAMES), first.batch)
    calls = dict(zip(("first", "second"), (_in_turn(v, inputs) for v in variants), strict=True))
    counts = {key: calls_for(seconds_of(call, warmup=2), block_s) for key, call in calls.items()}
    timings = interleave(calls, rounds=rounds, per_round=counts, warmup=3, lead_in=1)
    device = device_times(
        dict(zip(("first", "second"), (v.net_call for v in variants), strict=True)),
        first.device,
        rounds=rounds,
        block_s=block_s,
    )
    for variant in variants:
        variant.close()
    ratios = [a / b for a, b in zip(device["first"], device["second"], strict=True)]
    return {
        "variant": name,
        "nets": [first.checkpoint.net, second.checkpoint.net],
        "end_to_end_ms": [round(timings[key].median_ms, 4) for key in calls],
        "ratio": speedup(timings["second"], timings["first"]).to_json(),
        "device_ratio": round(statistics.median(ratios), 4),
    }
