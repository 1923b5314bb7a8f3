"""Rows of peers that know how long they take: fast, slow, lossy, failing and hanging ones."""

import math
import threading
import time
from typing import Any

from streamseg.benchmark.peers.measure import PeersSchedule, time_peers, why
from streamseg.benchmark.peers.peer import Peer
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.run import Spread
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from tests.benchmark.fakes import Clock, peer

CLOCK = Clock()
QUICK = PeersSchedule(rounds=3, block_seconds=0.0, run_rounds=2, run_frames=10, calibration_frames=0)


class Fake:
    """Takes these milliseconds per call, in turn, on the clock of :func:`timed`, and gives ``frames``."""

    def __init__(self, *milliseconds: float, frames: int = 1) -> None:
        self.milliseconds, self.frames, self.calls = milliseconds, frames, 0

    def __call__(self) -> int:
        CLOCK.ns += round(1e6 * self.milliseconds[self.calls % len(self.milliseconds)])
        self.calls += 1
        return self.frames


def timed(kind: str, peers: list[Peer], **options: Any) -> tuple[dict[str, PeerRow], dict[str, str]]:
    absent: dict[str, str] = {}
    given = {"limit": TimeLimit(clock_ns=CLOCK)} | options
    rows = time_peers(kind, peers, QUICK, absent, lambda _: None, **given)
    return {row.name: row for row in rows}, absent


def test_a_known_delay_is_measured_and_ours_is_twice_as_fast() -> None:
    # 2 calls to find out how long they take; of each block one that leads in, and does not count.
    steps = (1.0, 1.0, *(500.0, 18.0, 20.0, 22.0) * 3)
    own, other = Fake(*steps), Fake(*(2 * step for step in steps))
    peers = [peer("ours", "ours", "fp32", own), peer("theirs", "ours", "fp32", other, version="theirs 1.2")]
    rows, absent = timed("runtime", peers)
    assert absent == {}
    for name, fake, times in (("ours", own, 1), ("theirs", other, 2)):
        row = rows[name]
        assert (row.bench, row.key, row.kind) == ("peers", f"runtime {name}", "runtime")
        assert row.calls == 9
        assert fake.calls == 14
        assert (row.latency_ms.p50, row.latency_ms.max) == (20 * times, 22 * times)
        assert row.fps == 50 / times
        assert row.durations_ms == [[18 * times, 20 * times, 22 * times]] * 3
        assert {"gflop", "parameters", "normalisations", "difference", "mask_dice", "ready_s"} <= set(
            row.to_json()
        )
    assert rows["theirs"].ratio == Spread(median=2.0, min=2.0, max=2.0)
    assert rows["ours"].ratio == Spread(median=1.0, min=1.0, max=1.0)
    assert rows["ours"].ours is True
    assert rows["ours"].why is None
    assert rows["theirs"].version == "theirs 1.2"


def test_a_peer_that_is_faster_has_a_ratio_below_one() -> None:
    rows, _ = timed("net", [peer("ours", "ours", "fp32", Fake(20)), peer("fast", "ours", "fp32", Fake(2))])
    assert rows["fast"].ratio.median == 0.1
    assert rows["fast"].fps > rows["ours"].fps


def test_pipelines_are_timed_by_whole_runs() -> None:
    own = Fake(500, 20, 30, frames=10)
    rows, _ = timed("pipeline", [peer("ours", "ours", "int8", own, frames=10)])
    row = rows["ours"]
    assert own.calls == 3  # one to warm up
    assert row.fps == 400
    assert row.rounds["frame_ms"] == [2, 3]
    assert (row.frames, row.delivered, row.notes) == (10, 10, [])
    assert row.to_json()["latency_ms"] is None
    assert row.durations_ms is None


def test_a_pipeline_that_loses_frames_is_noted_and_gains_nothing() -> None:
    peers = [
        peer("ours", "ours", "int8", Fake(20, frames=10), frames=10),
        peer("loses", "ours", "int8", Fake(20, frames=5), frames=10),
        peer("writes less", "ours", "int8", Fake(20, frames=10), frames=10, delivered=lambda: 4),
        peer("repeats", "ours", "int8", Fake(20, frames=20), frames=10),
    ]
    rows, _ = timed("pipeline", peers)
    assert rows["loses"].notes == ["5 of 10 frames came out"]
    assert rows["loses"].ratio.median == 2
    assert rows["writes less"].notes == ["4 of 10 frames came out"]
    assert rows["writes less"].delivered == 4
    assert rows["repeats"].notes == ["20 of 10 frames came out"]
    assert rows["repeats"].fps == rows["ours"].fps


def test_peers_that_fail_hang_or_give_nothing_are_absent_and_the_others_stand() -> None:
    release = threading.Event()
    calls = [0]

    def fails() -> int:
        calls[0] += 1
        if calls[0] == 4:
            raise RuntimeError("out of luck")
        return 1

    def hangs() -> int:
        release.wait(60)
        return 1

    def unreadable() -> int:
        raise OSError("no such video")

    peers = [
        peer("ours", "ours", "fp32", Fake(1)),
        peer("fails", "ours", "fp32", fails),
        peer("hangs", "ours", "fp32", hangs),
        peer("gives nothing", "ours", "fp32", lambda: 0),
        peer("unreadable", "ours", "fp32", lambda: 1, delivered=unreadable),
    ]
    rows, absent = timed("runtime", peers, stall_s=0.8)
    release.set()
    assert set(rows) == {"ours"}
    assert absent["runtime fails"] == "out of luck"
    assert "no answer within" in absent["runtime hangs"]
    assert absent["runtime gives nothing"] == "no frame came out"
    assert absent["runtime unreadable"] == "no such video"


def test_without_ours_there_is_no_ratio() -> None:
    rows, _ = timed("net", [peer("theirs", "ours", "fp32", Fake(1))])
    assert rows["theirs"].to_json()["ratio"] is None
    assert rows["theirs"].notes == ["no ratio: ours was not measured"]
    assert timed("net", []) == ({}, {})


def test_a_stall_shows_in_the_tail() -> None:
    row = timed("runtime", [peer("stalls", "stalls", "fp32", Fake(*[1] * 4, 200, *[1] * 9))])[0]["stalls"]
    assert row.latency_ms.max == 200
    assert row.latency_ms.p99 > row.latency_ms.p50


def test_processor_time_is_per_frame() -> None:
    def works() -> int:
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            math.sqrt(2)
        return 10

    peers = [
        peer("ours", "ours", "int8", works, frames=10),
        peer("idle", "ours", "int8", Fake(10, frames=10)),
    ]
    rows, _ = timed("pipeline", peers)
    assert rows["ours"].processor_ms >= 3


def test_why_is_computed_from_figures() -> None:
    rate = {"gflop": 10.0, "gflop_per_s": 200.0, "processor_ms": 90.0, "precision": "fp32"}
    same, own = PeerRow(**rate), PeerRow(**rate | {"gflop_per_s": 600.0, "processor_ms": 30.0})
    assert why(same, own) == "the same 10.0 GFLOP; 200 GFLOP/s, ours 600"
    words = why(PeerRow(gflop=2.5, gflop_per_s=150.0, precision="bf16"), own)
    assert "2.5 GFLOP, ours 10.0" in words
    assert "computes in bf16, ours in fp32" in words
    plain = PeerRow(processor_ms=90.0, settings="does one after the other")
    assert why(plain, PeerRow(processor_ms=30.0, settings="does more")) == (
        "it does one after the other; ours does more; 90.0 ms of processor time per frame, ours 30.0"
    )


def test_whole_runs_over_hardly_any_frames_are_noted() -> None:
    rows, _ = timed("pipeline", [peer("ours", "ours", "int8", lambda: 1, frames=1)])
    assert rows["ours"].notes == [
        "runs over fewer than 8 frames are mostly their beginning and end; give a longer clip"
    ]


def test_a_slow_machine_gets_fewer_rounds_and_what_finds_no_time_is_absent() -> None:
    own, other = Fake(4000, frames=10), Fake(4000, frames=10)
    peers = [peer("ours", "ours", "int8", own, frames=10), peer("theirs", "ours", "int8", other, frames=10)]
    began = CLOCK.ns
    rows, absent = timed("pipeline", peers, limit=TimeLimit(19, clock_ns=CLOCK))
    assert CLOCK.ns - began == 16_000_000_000  # one to warm up, and one round
    assert absent == {}
    for row in rows.values():
        assert row.notes == ["measured in 1 of 2 rounds: the run was to end in time"]
    rows, absent = timed("pipeline", peers, limit=TimeLimit(13, clock_ns=CLOCK))
    assert list(rows) == ["ours"]
    assert absent == {"pipeline theirs": TOO_LATE}
    rows, absent = timed("runtime", peers, limit=TimeLimit(7, clock_ns=CLOCK))
    assert rows == {}
    assert set(absent.values()) == {TOO_LATE}
