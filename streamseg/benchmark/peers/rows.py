"""Times the peers of one kind in turn, and makes a row of each: how fast, and how fast compared with ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from streamseg.benchmark.peers.peer import Peer, leave_out
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.run import Latency, Record, Spread
from streamseg.benchmark.timing import CallTimeout, Timing, calls_for, interleave, seconds_of
from streamseg.core.errors import EngineError
from streamseg.core.types import Say

WHOLE_RUNS = "pipeline"
"""The kind whose calls are whole runs over a clip."""
FEW_FRAMES = 8
"""Whole runs over fewer frames say little."""
MIN_CALLS = 3
STALL_S = 120.0
"""A block of calls that takes longer is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersSchedule(Record):
    """How much is measured; its JSON is the ``regime`` of the rows."""

    rounds: int
    block_seconds: float
    """Of single calls, per peer and round."""
    run_rounds: int
    """Of pipelines, whose blocks are whole runs."""
    run_frames: int
    """Of a pipeline's run."""
    warmup_calls: int = 2
    warmup_runs: int = 1
    lead_in_calls: int = 1
    calibration_frames: int
    """Phantoms for a peer's INT8."""


def time_peers(
    kind: str,
    peers: Sequence[Peer],
    schedule: PeersSchedule,
    absent: dict[str, str],
    say: Say,
    *,
    stall_s: float = STALL_S,
) -> list[PeerRow]:
    """Time peers in turn; their rows, still without ``run``. One that fails or stalls is ``absent``."""
    by_name = {peer.name: peer for peer in peers}
    counted = {name: _Counted(peer) for name, peer in by_name.items()}

    def failed(name: str, error: Exception) -> None:
        leave_out(kind, name, error, absent, say)

    whole = kind == WHOLE_RUNS
    if whole:
        per_round = dict.fromkeys(by_name, 1)
    else:
        per_round = _calls(counted, schedule.block_seconds, stall_s, failed)
    if not per_round:
        return []
    rounds = schedule.run_rounds if whole else schedule.rounds
    say(f"timing {len(per_round)} of kind {kind}, {rounds} rounds")
    timings = interleave(
        {name: counted[name] for name in per_round},
        rounds=rounds,
        per_round=per_round,
        warmup=schedule.warmup_runs if whole else 0,
        lead_in=0 if whole else schedule.lead_in_calls,
        stall_s=stall_s,
        on_failure=failed,
    )
    rates: dict[str, Rate] = {}
    for name, timing in timings.items():
        try:
            rates[name] = counted[name].rate(timing)
        except Exception as error:
            failed(name, error)
    return [_row(kind, by_name[name], rates, by_name, timings[name]) for name in rates]


@dataclass(frozen=True, slots=True)
class Rate:
    """The speed of one peer."""

    delivered: int
    """Frames per call: the fewest of any."""
    fps: float
    frame_ms: tuple[float, ...]
    """Per frame, by round."""
    busy_ms: float
    """Processor time per frame."""
    notes: tuple[str, ...]


class _Counted:
    """A peer's call, the number of frames that came out of each, and the processor time that it took."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._counts: list[int] = []
        self._busy_s: list[float] = []

    def __call__(self) -> None:
        began = time.process_time()
        self._counts.append(self._peer.call())
        self._busy_s.append(time.process_time() - began)

    def rate(self, timing: Timing) -> Rate:
        """The speed by its timed calls. Raises EngineError for a call without a frame, and what counting the
        frames of a written video raises."""
        peer = self._peer
        counts = self._counts if peer.delivered is None else [peer.delivered()]
        fewest, most = min(counts), max(counts)
        if fewest < 1:
            raise EngineError("no frame came out")
        notes = []
        if (fewest, most) != (peer.frames, peer.frames):
            came = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            notes.append(f"{came} of {peer.frames} frames came out")
        frames = min(fewest, peer.frames)  # a frame that came out twice counts once
        return Rate(
            delivered=frames,
            fps=timing.rate * frames,
            frame_ms=tuple(ms / frames for ms in timing.medians_ms),
            busy_ms=median(self._busy_s) * 1e3 / frames,
            notes=tuple(notes),
        )


def _calls(
    counted: Mapping[str, _Counted],
    block_s: float,
    stall_s: float,
    failed: Callable[[str, Exception], None],
) -> dict[str, int]:
    """The calls of each peer that fill a block, at least a few."""
    found = {}
    with CallTimeout(stall_s) as timeout:
        for name, call in counted.items():
            try:
                seconds = timeout.run(partial(seconds_of, call))
            except Exception as error:  # of libraries that are not ours
                failed(name, error)
            else:
                found[name] = max(MIN_CALLS, calls_for(seconds, block_s))
    return found


def _row(
    kind: str, peer: Peer, rates: Mapping[str, Rate], peers: Mapping[str, Peer], timing: Timing
) -> PeerRow:
    rate, own = rates[peer.name], rates.get(peer.against)
    whole = kind == WHOLE_RUNS
    notes, ratio = list(rate.notes), Spread.unknown()
    if whole and peer.frames < FEW_FRAMES:
        notes.append(
            f"runs over fewer than {FEW_FRAMES} frames are mostly their beginning and end; give a longer clip"
        )
    if own is None:
        notes.append(f"no ratio: {peer.against} was not measured")
    else:
        pairs = zip(rate.frame_ms, own.frame_ms, strict=True)
        ratio = Spread.of([its / max(ours, 1e-6) for its, ours in pairs])
    gflop = peer.facts.get("gflop")
    return PeerRow(
        bench="peers",
        key=f"{kind} {peer.name}",
        rounds={"frame_ms": [round(ms, 3) for ms in rate.frame_ms]},
        notes=notes,
        kind=kind,
        name=peer.name,
        ours=peer.ours,
        against=peer.against,
        precision=peer.precision,
        fps=round(rate.fps, 2),
        latency_ms=Latency.unknown() if whole else Latency.of(timing.percentiles),
        ratio=ratio,
        why=None if peer.ours or own is None else why(peer, peers[peer.against], rate, own),
        version=peer.version,
        settings=peer.remark,
        frames=peer.frames,
        delivered=rate.delivered,
        calls=len(timing.durations_ns),
        durations_ms=None if whole else timing.to_json(),
        processor_ms=round(rate.busy_ms, 3),
        gflop_per_s=None if gflop is None else round(gflop * rate.fps, 1),
        gflop=_digits(gflop),
        difference=_digits(peer.facts.get("difference")),
        mask_dice=_digits(peer.facts.get("mask_dice")),
        ready_s=_digits(peer.facts.get("ready_s")),
    )


def why(peer: Peer, own: Peer, rate: Rate, own_rate: Rate) -> str:
    """What is known, from its figures, of the cause of a peer's speed compared with ours."""
    work, own_work = (one.facts.get("gflop") for one in (peer, own))
    if work is None or own_work is None:
        busy = f"{rate.busy_ms:.1f} ms of processor time per frame, ours {own_rate.busy_ms:.1f}"
        return f"it {peer.remark}; ours {own.remark}; {busy}" if peer.remark else busy
    same = abs(work - own_work) < 0.005 * own_work
    words = [f"the same {work:.1f} GFLOP" if same else f"{work:.1f} GFLOP, ours {own_work:.1f}"]
    words.append(f"{work * rate.fps:.0f} GFLOP/s, ours {own_work * own_rate.fps:.0f}")
    if peer.precision != own.precision:
        words.append(f"computes in {peer.precision}, ours in {own.precision}")
    return "; ".join(words)


def _digits(value: float | None) -> float | None:
    """Five significant digits."""
    return None if value is None else float(f"{value:.5g}")
