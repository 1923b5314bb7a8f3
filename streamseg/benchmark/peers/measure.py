"""Times the peers of one kind in turn, and completes their rows: how fast they are, and against ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from streamseg.benchmark.peers.peer import Peer, five_digits, leave_out
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.run import Latency, Record, Spread
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit, rounds_note
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
    limit: TimeLimit | None = None,
) -> list[PeerRow]:
    """Time peers in turn; their rows, still without ``run``.

    One that fails or stalls, or finds no time within ``limit``, is ``absent``.
    """
    limit = limit or TimeLimit()
    counted = {peer.name: _Counted(peer) for peer in peers}

    def failed(name: str, error: Exception) -> None:
        leave_out(kind, name, error, absent, say)

    whole = kind == WHOLE_RUNS
    if whole:
        per_round = dict.fromkeys(counted, 1)
    else:
        with CallTimeout(stall_s) as timeout:
            per_round = {}
            for name, call in counted.items():
                try:
                    if not limit.fits():
                        raise EngineError(TOO_LATE)
                    seconds = timeout.run(partial(seconds_of, call, clock_ns=limit.clock_ns))
                except Exception as error:  # of libraries that are not ours
                    failed(name, error)
                else:
                    per_round[name] = max(MIN_CALLS, calls_for(seconds, schedule.block_seconds))
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
        limit=limit,
    )
    rows: dict[str, PeerRow] = {}
    for name, timing in timings.items():
        try:
            row = counted[name].row(kind, timing)
            rows[name] = replace(row, notes=[*row.notes, *rounds_note(len(timing.rounds_ns), rounds)])
        except Exception as error:
            failed(name, error)
    return [_compared(row, rows, timings) for row in rows.values()]


class _Counted:
    """A peer's call, the number of frames that came out of each, and the processor time that it took."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._counts: list[int] = []
        self._busy_s: list[float] = []

    def __call__(self) -> None:
        began = self._peer.processor_s()
        self._counts.append(self._peer.call())
        self._busy_s.append(self._peer.processor_s() - began)

    def row(self, kind: str, timing: Timing) -> PeerRow:
        """The peer's row with its speed. Raises EngineError for a call without a frame, and what counting the
        frames of a written video raises."""
        row, delivered, whole = self._peer.row, self._peer.delivered, kind == WHOLE_RUNS
        counts = self._counts if delivered is None else [delivered()]
        fewest, most, wanted = min(counts), max(counts), row.frames or 1
        if fewest < 1:
            raise EngineError("no frame came out")
        notes = []
        if (fewest, most) != (wanted, wanted):
            came = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            notes.append(f"{came} of {wanted} frames came out")
        if whole and wanted < FEW_FRAMES:
            notes.append(
                f"runs over fewer than {FEW_FRAMES} frames are mostly their beginning and end; "
                "give a longer clip"
            )
        frames = min(fewest, wanted)  # a frame that came out twice counts once
        fps = timing.rate * frames
        return replace(
            row,
            bench="peers",
            key=f"{kind} {row.name}",
            kind=kind,
            rounds={"frame_ms": [round(ms / frames, 3) for ms in timing.medians_ms]},
            notes=notes,
            fps=round(fps, 2),
            latency_ms=Latency.unknown() if whole else Latency.of(timing.percentiles),
            delivered=frames,
            calls=len(timing.durations_ns),
            durations_ms=None if whole else timing.to_json(),
            processor_ms=round(median(self._busy_s) * 1e3 / frames, 3),
            gflop_per_s=None if row.gflop is None else round(row.gflop * fps, 1),
            gflop=five_digits(row.gflop),
        )


def _compared(row: PeerRow, rows: Mapping[str, PeerRow], timings: Mapping[str, Timing]) -> PeerRow:
    """The row with how many times as fast ours is, per frame within each round, and why."""
    own = rows.get(row.against or "")
    if own is None:
        return replace(row, notes=[*row.notes, f"no ratio: {row.against} was not measured"])
    frames = (own.delivered or 1) / (row.delivered or 1)
    pairs = zip(timings[row.name].medians_ms, timings[own.name].medians_ms, strict=True)
    ratio = Spread.of([frames * its / max(ours, 1e-6) for its, ours in pairs])
    return replace(row, ratio=ratio, why=None if row.ours else why(row, own))


def why(row: PeerRow, own: PeerRow) -> str:
    """What is known, from their figures, of the cause of a peer's speed compared with ours."""
    if row.gflop is None or own.gflop is None:
        busy = f"{row.processor_ms:.1f} ms of processor time per frame, ours {own.processor_ms:.1f}"
        return f"it {row.settings}; ours {own.settings}; {busy}" if row.settings else busy
    same = abs(row.gflop - own.gflop) < 0.005 * own.gflop
    words = [f"the same {row.gflop:.1f} GFLOP" if same else f"{row.gflop:.1f} GFLOP, ours {own.gflop:.1f}"]
    words.append(f"{row.gflop_per_s:.0f} GFLOP/s, ours {own.gflop_per_s:.0f}")
    if row.precision != own.precision:
        words.append(f"computes in {row.precision}, ours in {own.precision}")
    return "; ".join(words)
