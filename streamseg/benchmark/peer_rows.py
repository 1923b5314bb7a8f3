"""Times the peers of one kind in turn, and makes a row of each: how fast, and how fast beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamseg.benchmark.measure import Spread, Timing, calls_for, interleave, seconds_of
from streamseg.benchmark.peer import Peer, leave_out
from streamseg.benchmark.rows import Row
from streamseg.benchmark.watch import Watch
from streamseg.errors import EngineError
from streamseg.strict_json import finite

FACTS = ("gflop", "parameters", "normalisations", "difference", "mask_dice", "ready_s")
"""What a peer may know about itself. ``difference`` is the largest of any pixel's probability from the
reference's, ``mask_dice`` the mean Dice of its masks and the reference's (runtimes) or ours (pipelines),
``ready_s`` the time from the weights to the first answer."""
STALL_S = 120.0
"""A block of calls that takes longer is given up."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    block_s: float
    """Of single calls, per peer and round."""
    run_frames: int
    """Of a pipeline's run."""
    calibration: int
    """Phantoms for a peer's INT8."""

    def to_json(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "block_seconds": self.block_s,
            "run_frames": self.run_frames,
            "warmup_calls": 2,
            "warmup_runs": 1,
            "lead_in_calls": 1,
            "calibration_frames": self.calibration,
        }


def time_peers(
    kind: str,
    peers: Sequence[Peer],
    effort: Effort,
    absent: dict[str, str],
    say: Say,
    *,
    stall_s: float = STALL_S,
) -> list[Row]:
    """Time peers in turn; their rows, still without ``run``. They are closed afterwards.

    One that fails or stalls is ``absent``, and the others have their rows.
    """
    by_name = {peer.name: peer for peer in peers}
    counted = {name: _Counted(peer) for name, peer in by_name.items()}
    failed = partial(_failed, kind, absent, say)
    try:
        per_round = _calls(counted, by_name, effort.block_s, stall_s, failed)
        if not per_round:
            return []
        say(f"timing {len(per_round)} of kind {kind}, {effort.rounds} rounds")
        whole = {name: by_name[name].frames > 1 for name in per_round}
        found = interleave(
            {name: counted[name] for name in per_round},
            rounds=effort.rounds,
            per_round=per_round,
            warmup={name: 1 if whole[name] else 0 for name in per_round},
            lead_in={name: 0 if whole[name] else 1 for name in per_round},
            stall_s=stall_s,
            on_failure=failed,
        )
        return _rows(kind, by_name, counted, found, failed)
    finally:
        for peer in peers:
            peer.close()


class _Counted:
    """A peer's call, and how many frames came out of each."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.counts: set[int] = set()

    def __call__(self) -> None:
        self.counts.add(self._peer.call())

    def delivered(self) -> tuple[int, int]:
        """Frames of a call, least and most; those of a video are counted in the last one that was written."""
        if self._peer.delivered is not None:
            self.counts = {self._peer.delivered()}
        return min(self.counts), max(self.counts)


def _failed(kind: str, absent: dict[str, str], say: Say, name: str, error: Exception) -> None:
    leave_out(kind, name, error, absent, say)


def _calls(
    counted: Mapping[str, _Counted],
    peers: Mapping[str, Peer],
    block_s: float,
    stall_s: float,
    failed: Callable[[str, Exception], None],
) -> dict[str, int]:
    """Calls of each peer in a block: one run of a pipeline, else as many as take so long."""
    found = {}
    with Watch(stall_s) as watch:
        for name, peer in peers.items():
            try:
                single = peer.frames == 1
                found[name] = (
                    calls_for(watch.run(partial(seconds_of, counted[name])), block_s) if single else 1
                )
            except Exception as error:  # of libraries that are not ours
                failed(name, error)
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
            frames[name] = counted[name].delivered()
            if frames[name][0] < 1:
                raise EngineError("no frame came out")
        except Exception as error:
            failed(name, error)
    rates = {name: _Rate.of(peers[name], found[name], *frames[name]) for name in frames}
    return [_row(kind, peers[name], rates, peers, found[name]) for name in rates]


@dataclass(frozen=True, slots=True)
class _Rate:
    """Frames of one peer by time."""

    delivered: int
    """Frames per call: the least of any."""
    fps: float
    frame_ms: tuple[float, ...]
    """Per frame, by round."""
    notes: tuple[str, ...]

    @classmethod
    def of(cls, peer: Peer, timing: Timing, least: int, most: int) -> _Rate:
        count = min(least, peer.frames)  # what came out twice is no work done
        notes = []
        if (least, most) != (peer.frames, peer.frames):
            came = f"{least}" if least == most else f"{least} to {most}"
            notes.append(f"{came} of {peer.frames} frames came out")
        return cls(count, timing.rate * count, tuple(ms / count for ms in timing.medians_ms), tuple(notes))


def _row(kind: str, peer: Peer, rates: Mapping[str, _Rate], peers: Mapping[str, Peer], timing: Timing) -> Row:
    rate, own = rates[peer.name], rates.get(peer.against)
    single = peer.frames == 1
    notes = list(rate.notes)
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
        "latency_ms": timing.percentiles.to_json() if single else None,
        "ratio": ratio,
        "why": None if peer.ours or own is None else why(peer, peers[peer.against], rate.fps, own.fps),
        "version": peer.version,
        "settings": peer.remark,
        "frames": peer.frames,
        "delivered": rate.delivered,
        "calls": len(timing.durations_ns),
        "durations_ms": [[round(ns / 1e6, 3) for ns in block] for block in timing.rounds_ns]
        if single
        else None,
        "gflop_per_s": None if gflop is None else round(gflop * rate.fps, 1),
        **{name: _rounded(peer.facts.get(name)) for name in FACTS},
    }
    return dict(finite(row))


def why(peer: Peer, own: Peer, fps: float, own_fps: float) -> str:
    """What is known of the cause of a peer's speed beside ours, from its figures where there are some."""
    work, own_work = (one.facts.get("gflop") for one in (peer, own))
    if work is None or own_work is None:
        return f"it {peer.remark}; ours {own.remark}" if peer.remark else ""
    same = abs(work - own_work) < 0.005 * own_work
    words = [f"the same {work:.1f} GFLOP" if same else f"{work:.1f} GFLOP, ours {own_work:.1f}"]
    words.append(f"{work * fps:.0f} GFLOP/s, ours {own_work * own_fps:.0f}")
    norms = peer.facts.get("normalisations") or 0
    if norms != (own.facts.get("normalisations") or 0):
        words.append(f"{norms} normalisations to compute, ours {own.facts.get('normalisations') or 'none'}")
    if peer.precision != own.precision:
        words.append(f"computes in {peer.precision}, ours in {own.precision}")
    return "; ".join(words)


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value
