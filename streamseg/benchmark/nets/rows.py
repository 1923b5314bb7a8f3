"""Rows of the nets' benchmark: what was measured, in the figures that can be compared, and what is odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamseg.benchmark.flops import Work
from streamseg.benchmark.frame_trace import ages_of, stages_of
from streamseg.benchmark.limits import Kernel, Limit, limits
from streamseg.benchmark.nets.measure import MeasuredVariant, is_reference, on_gpu
from streamseg.benchmark.pipeline.run import EndToEnd, Paced
from streamseg.benchmark.rows import Row
from streamseg.benchmark.timing import Spread, Timing, speedup
from streamseg.core.engine_info import EngineInfo
from streamseg.core.latency import Percentiles

STALL = 20
"""A call that took this many times the median is a stall."""
SPARED = 1.25
"""Engines for the processor may spare up to a fifth of the arithmetic that is counted (decoders that
convolve before they up-sample), and so be faster than the limit by right."""
TRUE_SHARE = 0.5
"""An engine computes in what was asked for where at least this share of its layers does."""


@dataclass(frozen=True, slots=True, repr=False)
class Context:
    """What a point's rows have in common."""

    run: Mapping[str, Any]
    work: Work | None
    """The folded net's, for every way to run it: the result is the same. None where torch is missing."""
    kernels: Sequence[Kernel]
    timings: Mapping[str, Timing]
    """The kernels' by name, of the same rounds."""
    pictures: str


def make_rows(measured: Mapping[str, MeasuredVariant], context: Context) -> list[Row]:
    """A row of each subject of one point."""
    done = {key: one for key, one in measured.items() if one.timing is not None}
    exact = {
        one.accuracy.digest: key
        for key, one in reversed(done.items())
        if one.accuracy is not None and one.subject.precision == "fp32"
    }
    references = {on_gpu(one.subject): one for one in done.values() if is_reference(one.subject)}
    return [_row(key, one, references.get(on_gpu(one.subject)), exact, context) for key, one in done.items()]


def _row(
    key: str,
    one: MeasuredVariant,
    reference: MeasuredVariant | None,
    exact: Mapping[str, str],
    context: Context,
) -> Row:
    timing, subject = one.timing, one.subject
    assert timing is not None
    ratio = None
    if reference is not None and reference.timing is not None:
        ratio = speedup(timing, reference.timing).to_json()
    ends = end_to_end_figures(one.ends)
    accuracy, start = one.accuracy, one.start
    warm = None if start is None else round(start.warm_s, 3)
    row: Row = {
        "bench": "nets",
        "key": key,
        "run": context.run,
        "net": subject.point.net,
        "backend": subject.backend,
        "precision": subject.precision,
        "precision_found": {kind: round(share, 4) for kind, share in subject.precision_found.items()},
        "trained": subject.trained,
        "folded": subject.folded,
        "height": subject.point.height,
        "width": subject.point.width,
        "batch": subject.point.batch,
        "engine": {
            **EngineInfo.of(subject.engine).identity(),
            "from": subject.origin,
        },
        "engine_fps": round(subject.point.batch * timing.rate, 3),
        "end_to_end_fps": ends and ends.pop("fps"),
        "latency_ms": timing.percentiles.to_json(),
        "durations_ms": [[round(ns / 1e6, 3) for ns in block] for block in timing.rounds_ns],
        "end_to_end": ends,
        "paced": [paced_figures(run) for run in one.paced],
        "dice": None if accuracy is None else rounded(accuracy.dice, 4),
        "dice_data": context.pictures,
        "mask_agreement": None if accuracy is None else rounded(accuracy.mask_agreement, 4),
        "probability_difference": None if accuracy is None else rounded(accuracy.probability_difference, 7),
        **_limit_figures(one, timing, context),
        "ratio_to_eager": ratio,
        "model_bytes": subject.model_bytes,
        "peak_host_bytes": start and start.peak_bytes,
        "peak_gpu_bytes": start and start.peak_gpu_bytes,
        "start_s": {
            "warm": warm,
            "build": subject.build_s,
            "cold": None if warm is None or subject.build_s is None else round(warm + subject.build_s, 3),
        },
        "calls": len(timing.durations_ns),
        "energy_j_per_frame": None,
        "rounds": {
            "engine_ms": [round(value, 3) for value in timing.medians_ms],
            "end_to_end_fps": [rounded(end.fps, 3) for end in one.ends],
        },
    }
    return {**row, "notes": notes_of(one, row, exact)}


def end_to_end_figures(ends: Sequence[EndToEnd]) -> dict[str, Any] | None:
    """All rounds together: every frame counts, rates over the time that their frames took."""
    if not ends:
        return None
    timed = [end for end in ends if end.fps]
    intervals = sum(end.processed - 1 for end in timed)
    seconds = sum((end.processed - 1) / end.fps for end in timed if end.fps)
    lives = [life for end in ends for life in end.lives]
    return {
        "fps": round(intervals / seconds, 3) if seconds else None,
        "offered": sum(end.offered for end in ends),
        "processed": sum(end.processed for end in ends),
        "dropped": sum(end.dropped for end in ends),
        "stages_ms": {name: stage.to_json() for name, stage in stages_of(lives).items()},
        "age_ms": Percentiles.of(ages_of(lives)).to_json(),
    }


def paced_figures(run: Paced) -> dict[str, Any]:
    """A live run at one pace."""
    infer = run.stages.get("infer")
    return {
        "fps": run.fps,
        "offered": run.offered,
        "processed": run.processed,
        "dropped": run.dropped,
        "age_ms": run.age.to_json(),
        "infer_ms": (infer or Percentiles.of([])).to_json(),
        "within_budget": round(run.within_budget, 4),
    }


def _limit_figures(one: MeasuredVariant, timing: Timing, context: Context) -> dict[str, Any]:
    """The subject's arithmetic, and its share of the machine's limit in the same rounds."""
    work = context.work
    figures: dict[str, Any] = dict.fromkeys(
        ("limit_share", "limit_share_spread", "limit", "gflop", "gflop_per_s")
    )
    if work is None:
        return figures
    figures["gflop"] = round(work.flop / 1e9, 3)
    figures["gflop_per_s"] = round(work.flop / timing.median_ms / 1e6, 2)
    limit = limit_of(one, context)
    if limit is None:
        return figures
    kernel = next(kernel for kernel in context.kernels if kernel.name == limit.kernel)
    pairs = zip(timing.medians_ms, context.timings[kernel.name].medians_ms, strict=True)
    spread = Spread.of([(work.flop / own) / (kernel.work / other) for own, other in pairs])
    figures["limit"] = {
        "kind": limit.kind,
        "giga_per_s": round(limit.rate / 1e9, 1),
        "kernel": limit.kernel,
    }
    return {**figures, "limit_share": round(spread.median, 4), "limit_share_spread": spread.to_json()}


def limit_of(one: MeasuredVariant, context: Context) -> Limit | None:
    """The limit of the precision that was asked for, on the subject's device. A GPU's INT8 is set against
    FP16, since torch multiplies no 8-bit matrices there."""
    gpu = on_gpu(one.subject)
    kernels = [kernel for kernel in context.kernels if is_gpu_kernel(kernel) == gpu]
    found = limits(kernels, context.timings)
    precision = one.subject.precision
    return found.get("fp16" if gpu and precision == "int8" else precision)


def is_gpu_kernel(kernel: Kernel) -> bool:
    """Whether a kernel runs on a GPU."""
    return kernel.name.startswith("GPU ")


def run_limits(kernels: Sequence[Kernel], timings: Mapping[str, Timing]) -> dict[str, Any]:
    """The limits of a whole run by kind, a GPU's under ``gpu fp16`` and the like."""
    found: dict[str, Any] = {}
    for prefix, gpu in (("", False), ("gpu ", True)):
        chosen = [kernel for kernel in kernels if is_gpu_kernel(kernel) == gpu]
        found |= {prefix + kind: limit.to_json() for kind, limit in limits(chosen, timings).items()}
    return found


def notes_of(one: MeasuredVariant, row: Row, exact: Mapping[str, str]) -> list[str]:
    """What is wrong with a row, or may mislead. ``exact``: FP32's answers by their digest."""
    asked, found, latency = row["precision"], row["precision_found"], row["latency_ms"]
    notes = list(dict.fromkeys([*one.notes, *(note for end in one.ends for note in end.notes)]))
    notes += [f"at {run.fps:g} frames/s: {note}" for run in one.paced for note in run.notes]
    if not found or set(found) == {"other"}:
        notes.append(f"asked for {asked}; the engine does not tell what it computes in")
    elif found.get(asked, 0.0) < TRUE_SHARE:
        kind, share = max(found.items(), key=lambda pair: pair[1])
        notes.append(f"asked for {asked}, computes in {kind} ({share:.0%} of its layers)")
    regime, rounds = row["run"]["regime"], len(row["durations_ms"])
    if regime.get("total_seconds") is not None and rounds < regime["rounds"]:
        notes.append(f"measured in {rounds} of {regime['rounds']} rounds: the run was to end in time")
    same = None if one.accuracy is None else exact.get(one.accuracy.digest)
    if asked != "fp32" and same is not None:
        notes.append(f"asked for {asked}; its probabilities are bit for bit those of {same}")
    if one.accuracy is not None and one.accuracy.constant:
        notes.append("its probabilities are the same in all pictures: it does not look at them")
    if latency["max"] > STALL * latency["p50"] > 0:
        notes.append(
            f"a call took {latency['max']:.1f} ms, {latency['max'] / latency['p50']:.0f} times the median"
        )
    share = row["limit_share"]
    if share is not None and share > (1 if on_gpu(one.subject) else SPARED):
        notes.append(
            f"{share:.2f} times as fast as the limit: it spares arithmetic that is counted, or the limit's "
            "kernels fall short of the machine"
        )
    return notes


def rounded(value: float | None, digits: int) -> float | None:
    """A number for JSON."""
    return None if value is None else round(value, digits)
