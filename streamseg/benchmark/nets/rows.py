"""The rows of the nets' benchmark: the figures of each variant, and notes on what is odd about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.benchmark.flops import Work
from streamseg.benchmark.frame_trace import RunOutcome, pool
from streamseg.benchmark.limits import GPU, Limit, limits
from streamseg.benchmark.live_probe import LiveOutcome
from streamseg.benchmark.nets.measure import MeasuredVariant, NetMeasurement, is_reference
from streamseg.benchmark.nets.schedule import Schedule
from streamseg.benchmark.rows.nets import EndToEnd, NetEngine, NetRow, Pace, RowLimit, Starts
from streamseg.benchmark.rows.run import Latency, Spread
from streamseg.benchmark.time_limit import rounds_note
from streamseg.benchmark.timing import Timing, speedup
from streamseg.core.engine_info import EngineInfo
from streamseg.core.latency import Percentiles

STALL = 20
"""A call that took this many times the median is a stall."""
SPARED = 1.25
"""Engines for the processor may spare up to a fifth of the arithmetic that is counted (decoders that convolve
before they up-sample), and so be faster than the limit without an error."""
TRUE_SHARE = 0.5
"""An engine computes in what was asked for if at least this share of its layers does."""


def make_rows(net: NetMeasurement, work: Work | None) -> list[NetRow]:
    """A row of each variant of one net that was timed, still without ``run``.

    ``work`` is the folded net's, for every way to run it: the result is the same. None without torch.
    """
    done = {key: one for key, one in net.measured.items() if one.timing is not None}
    exact = {
        one.accuracy.digest: key
        for key, one in reversed(done.items())
        if one.accuracy is not None and one.variant.spec.precision == "fp32"
    }
    references = {one.variant.on_gpu: one.timing for one in done.values() if is_reference(one.variant)}
    return [_row(one, references.get(one.variant.on_gpu), exact, net, work) for one in done.values()]


def _row(
    one: MeasuredVariant,
    reference: Timing | None,
    exact: Mapping[str, str],
    net: NetMeasurement,
    work: Work | None,
) -> NetRow:
    variant, timing, accuracy, start = one.variant, one.timing, one.accuracy, one.start
    assert timing is not None
    engine = EngineInfo.of(variant.engine)
    shape, latency = variant.shape, Latency.of(timing.percentiles)
    found = {kind: round(share, 4) for kind, share in variant.precision_found().items()}
    limit = _limit_figures(one, timing, net, work)
    warm = None if start is None else round(start.warm_s, 3)
    cold = None if warm is None or variant.build_s is None else round(warm + variant.build_s, 3)
    end_to_end_fps, replay = end_to_end_figures(one.replays)
    return NetRow(
        bench="nets",
        key=variant.key,
        rounds={
            "engine_ms": [round(value, 3) for value in timing.medians_ms],
            "end_to_end_fps": [_rounded(run.fps, 3) for run in one.replays],
        },
        notes=[
            *dict.fromkeys([*one.notes, *(note for run in one.replays for note in run.notes)]),
            *(f"at {run.offer.fps:g} frames/s: {note}" for run in one.paced for note in run.notes),
            *_notes(
                one,
                found=found,
                latency=latency,
                limit_share=limit.get("limit_share"),
                exact=exact,
                schedule=net.context.schedule,
            ),
        ],
        net=shape.net,
        backend=variant.spec.backend,
        precision=variant.spec.precision,
        precision_found=found,
        trained=variant.trained,
        folded=variant.spec.folded,
        height=shape.height,
        width=shape.width,
        batch=shape.batch,
        engine=NetEngine(name=engine.name, sha256=engine.sha256, from_=variant.origin),
        engine_fps=round(shape.batch * timing.rate, 3),
        end_to_end_fps=end_to_end_fps,
        latency_ms=latency,
        durations_ms=timing.to_json(),
        end_to_end=replay,
        paced=[pace_figures(run) for run in one.paced],
        dice=None if accuracy is None else _rounded(accuracy.dice, 4),
        dice_data=net.context.images.words,
        mask_agreement=None if accuracy is None else _rounded(accuracy.mask_agreement, 4),
        probability_difference=None if accuracy is None else _rounded(accuracy.probability_difference, 7),
        **limit,
        ratio_to_eager=Spread.unknown() if reference is None else speedup(timing, reference),
        model_bytes=variant.model_bytes,
        peak_host_bytes=None if start is None else start.peak_bytes,
        peak_gpu_bytes=None if start is None else start.peak_gpu_bytes,
        start_s=Starts(warm=warm, build=variant.build_s, cold=cold),
        calls=len(timing.durations_ns),
    )


def end_to_end_figures(runs: Sequence[RunOutcome]) -> tuple[float | None, EndToEnd]:
    """Frames per second, and all rounds together: every frame counts, over the time that the frames took."""
    if not runs:
        return None, EndToEnd.unknown()
    intervals = sum(run.processed - 1 for run in runs if run.fps)
    seconds = sum((run.processed - 1) / run.fps for run in runs if run.fps)
    found = pool(runs)
    return round(intervals / seconds, 3) if seconds else None, EndToEnd(
        offered=found.offered,
        processed=found.processed,
        dropped=found.dropped,
        stages_ms={name: Latency.of(stage) for name, stage in found.stages.items()},
        age_ms=Latency.of(found.age),
    )


def pace_figures(run: LiveOutcome) -> Pace:
    """A live run at one pace."""
    return Pace(
        fps=run.offer.fps,
        offered=run.offered,
        processed=run.processed,
        dropped=run.dropped,
        age_ms=Latency.of(run.age),
        infer_ms=Latency.of(run.stages.get("infer") or Percentiles.of([])),
        within_budget=round(run.within_budget, 4),
    )


def _limit_figures(
    one: MeasuredVariant, timing: Timing, net: NetMeasurement, work: Work | None
) -> dict[str, Any]:
    """The variant's arithmetic, and its share of the machine's limit in the same rounds."""
    if work is None:
        return {}
    figures: dict[str, Any] = {
        "gflop": round(work.flop / 1e9, 3),
        "gflop_per_s": round(work.flop / timing.median_ms / 1e6, 2),
    }
    limit = limit_of(one, net)
    if limit is None:
        return figures
    kernel = next(kernel for kernel in net.context.kernels if kernel.name == limit.kernel)
    pairs = zip(timing.medians_ms, net.kernels[kernel.name].medians_ms, strict=True)
    spread = Spread.of([(work.flop / own) / (kernel.work / other) for own, other in pairs])
    return figures | {
        "limit_share": spread.median,
        "limit_share_spread": spread,
        "limit": RowLimit(
            kind=limit.kind.removeprefix(GPU), giga_per_s=round(limit.rate / 1e9, 1), kernel=limit.kernel
        ),
    }


def limit_of(one: MeasuredVariant, net: NetMeasurement) -> Limit | None:
    """The limit of the precision that was asked for, on the variant's device. A GPU's INT8 is compared with
    FP16, since torch multiplies no 8-bit matrices there."""
    found, kind = limits(net.context.kernels, net.kernels), one.variant.spec.precision
    if one.variant.on_gpu:
        kind = GPU + ("fp16" if kind == "int8" else kind)
    return found.get(kind)


def _notes(
    one: MeasuredVariant,
    *,
    found: Mapping[str, float],
    latency: Latency,
    limit_share: float | None,
    exact: Mapping[str, str],
    schedule: Schedule,
) -> list[str]:
    """What is wrong with a row, or may mislead. ``exact``: FP32's answers by their digest."""
    asked, accuracy, timing, notes = one.variant.spec.precision, one.accuracy, one.timing, []
    assert timing is not None
    if not found or set(found) == {"other"}:
        notes.append(f"asked for {asked}; the engine does not tell what it computes in")
    elif found.get(asked, 0.0) < TRUE_SHARE:
        kind, share = max(found.items(), key=lambda pair: pair[1])
        notes.append(f"asked for {asked}, computes in {kind} ({share:.0%} of its layers)")
    if schedule.total_seconds is not None:
        notes += rounds_note(len(timing.rounds_ns), schedule.rounds)
    same = None if accuracy is None else exact.get(accuracy.digest)
    if asked != "fp32" and same is not None:
        notes.append(f"asked for {asked}; its probabilities are bit for bit those of {same}")
    if accuracy is not None and accuracy.constant:
        notes.append("its probabilities are the same in all images: it ignores its input")
    p50, longest = latency.p50 or 0.0, latency.max or 0.0
    if longest > STALL * p50 > 0:
        notes.append(f"a call took {longest:.1f} ms, {longest / p50:.0f} times the median")
    if limit_share is not None and limit_share > (1 if one.variant.on_gpu else SPARED):
        notes.append(
            f"{limit_share:.2f} times as fast as the limit: it spares arithmetic that is counted, or the "
            "limit's kernels fall short of the machine"
        )
    return notes


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
