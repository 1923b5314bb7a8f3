"""Times the peers of one kind in turn, and makes a row of each: how fast, and how fast beside ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from streamseg.benchmark.peers.peer import Peer, leave_out
from streamseg.benchmark.rows import Row
from streamseg.benchmark.timing import CallTimeout, Spread, Timing, calls_for, interleave, seconds_of
from streamseg.core.errors import EngineError
from streamseg.core.files import finite
from streamseg.core.types import Say

FACTS = ("gflop", "parameters", "normalisations", "difference", "mask_dice", "ready_s")
"""What a peer may know about itself. ``difference`` is the largest of any pixel's probability from the
reference's, ``mask_dice`` the mean Dice of its masks and the reference's (runtimes) or ours (pipelines),
``ready_s`` the time from the weights to the first answer."""
WHOLE_RUNS = "pipeline"
"""The kind whose calls are whole runs over a clip."""
FEW = 8
"""Whole runs over fewer frames say little."""
LEAST_CALLS = 3
STALL_S = 120.0
"""A block of calls that takes longer is given up."""


@dataclass(frozen=True, slots=True)
class PeersSchedule:
    """How much is measured."""

    rounds: int
    block_s: float
    """Of single calls, per peer and round."""
    run_rounds: int
    """Of pipelines, whose blocks are whole runs."""
    run_frames: int
    """Of a pipeline's run."""
    calibration: int
    """Phantoms for a peer's INT8."""

    def to_json(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "block_seconds": self.block_s,
            "run_rounds": self.run_rounds,
            "run_frames": self.run_frames,
            "warmup_calls": 2,
            "warmup_runs": 1,
            "lead_in_calls": 1,
            "calibration_frames": self.calibration,
        }


def time_peers(
    kind: str,
    peers: Sequence[Peer],
    effort: PeersSchedule,
    absent: dict[str, str],
    say: Say,
    *,
    stall_s: float = STALL_S,
) -> list[Row]:
    """Time peers in turn; their rows, still without ``run``.

    One that fails or stalls is ``absent``, and the others have their rows.
    """
    by_name = {peer.name: peer for peer in peers}
    counted = {name: _Counted(peer) for name, peer in by_name.items()}
    failed = partial(_failed, kind, absent, say)
    whole = kind == WHOLE_RUNS
    per_round = dict.fromkeys(by_name, 1) if whole else _calls(counted, effort.block_s, stall_s, failed)
    if not per_round:
        return []
    rounds = effort.run_rounds if whole else effort.rounds
    say(f"timing {len(per_round)} of kind {kind}, {rounds} rounds")
    found = interleave(
        {name: counted[name] for name in per_round},
        rounds=rounds,
        per_round=per_round,
        warmup=1 if whole else 0,
        lead_in=0 if whole else 1,
        stall_s=stall_s,
        on_failure=failed,
    )
    return _rows(kind, by_name, counted, found, failed)


class _Counted:
    """A peer's call, how many frames came out of each, and the processor time that it took."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._counts: list[int] = []
        self._busy_s: list[float] = []

    def __call__(self) -> None:
        began = time.process_time()
        self._counts.append(self._peer.call())
        self._busy_s.append(time.process_time() - began)

    def delivered(self) -> tuple[int, int]:
        """Frames of a call, least and most; those of a video are counted in the last one that was written."""
        if self._peer.delivered is not None:
            self._counts = [self._peer.delivered()]
        return min(self._counts), max(self._counts)

    def busy_ms(self) -> float:
        """Processor time of a call, over all threads: the median, milliseconds."""
        return median(self._busy_s) * 1e3


def _failed(kind: str, absent: dict[str, str], say: Say, name: str, error: Exception) -> None:
    leave_out(kind, name, error, absent, say)


def _calls(
    counted: Mapping[str, _Counted],
    block_s: float,
    stall_s: float,
    failed: Callable[[str, Exception], None],
) -> dict[str, int]:
    """Calls of each peer in a block: as many as take so long, and no fewer than a few."""
    found = {}
    with CallTimeout(stall_s) as watch:
        for name, call in counted.items():
            try:
                seconds = watch.run(partial(seconds_of, call))
            except Exception as error:  # of libraries that are not ours
                failed(name, error)
            else:
                found[name] = max(LEAST_CALLS, calls_for(seconds, block_s))
    return found


def _rows(
    kind: str,
    peers: Mapping[str, Peer],
    counted: Mapping[str, _Counted],
    found: Mapping[str, Timing],
    failed: Callable[[str, Exception], None],
) -> list[Row]:
    frames: dict[str, tuple[int, int]] = {}
    for name in found:
        try:
            least, most = counted[name].delivered()
            if least < 1:
                raise EngineError("no frame came out")
            frames[name] = least, most
        except Exception as error:
            failed(name, error)
    rates = {
        name: Rate.of(peers[name], found[name], *came, counted[name].busy_ms())
        for name, came in frames.items()
    }
    return [_row(kind, peers[name], rates, peers, found[name]) for name in rates]


@dataclass(frozen=True, slots=True)
class Rate:
    """Frames of one peer by time."""

    delivered: int
    """Frames per call: the least of any."""
    fps: float
    frame_ms: tuple[float, ...]
    """Per frame, by round."""
    busy_ms: float
    """Processor time per frame."""
    notes: tuple[str, ...]

    @classmethod
    def of(cls, peer: Peer, timing: Timing, least: int, most: int, busy_ms: float) -> Rate:
        count = min(least, peer.frames)  # what came out twice is no work done
        notes = []
        if (least, most) != (peer.frames, peer.frames):
            came = f"{least}" if least == most else f"{least} to {most}"
            notes.append(f"{came} of {peer.frames} frames came out")
        frame_ms = tuple(ms / count for ms in timing.medians_ms)
        return cls(count, timing.rate * count, frame_ms, busy_ms / count, tuple(notes))


def _row(kind: str, peer: Peer, rates: Mapping[str, Rate], peers: Mapping[str, Peer], timing: Timing) -> Row:
    rate, own = rates[peer.name], rates.get(peer.against)
    whole = kind == WHOLE_RUNS
    notes = list(rate.notes)
    if whole and peer.frames < FEW:
        notes.append(
            f"runs over fewer than {FEW} frames are mostly their beginning and end; give a longer clip"
        )
    ratio = None
    if own is None:
        notes.append(f"no ratio: {peer.against} was not measured")
    else:
        pairs = zip(rate.frame_ms, own.frame_ms, strict=True)
        ratio = Spread.of([its / max(ours, 1e-6) for its, ours in pairs]).to_json()
    gflop = peer.facts.get("gflop")
    row = {
        "bench": "peers",
        "key": f"{kind} {peer.name}",
        "run": None,
        "rounds": {"frame_ms": [round(ms, 3) for ms in rate.frame_ms]},
        "notes": notes,
        "kind": kind,
        "name": peer.name,
        "ours": peer.ours,
        "against": peer.against,
        "precision": peer.precision,
        "fps": round(rate.fps, 2),
        "latency_ms": None if whole else timing.percentiles.to_json(),
        "ratio": ratio,
        "why": None if peer.ours or own is None else why(peer, peers[peer.against], rate, own),
        "version": peer.version,
        "settings": peer.remark,
        "frames": peer.frames,
        "delivered": rate.delivered,
        "calls": len(timing.durations_ns),
        "durations_ms": None if whole else _milliseconds(timing),
        "processor_ms": round(rate.busy_ms, 3),
        "gflop_per_s": None if gflop is None else round(gflop * rate.fps, 1),
        **{name: _rounded(peer.facts.get(name)) for name in FACTS},
    }
    return dict(finite(row))


def _milliseconds(timing: Timing) -> list[list[float]]:
    return [[round(ns / 1e6, 3) for ns in block] for block in timing.rounds_ns]


def why(peer: Peer, own: Peer, rate: Rate, own_rate: Rate) -> str:
    """What is known of the cause of a peer's speed beside ours, from its figures."""
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


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value
