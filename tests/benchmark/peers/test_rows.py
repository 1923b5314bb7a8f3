"""Rows of peers that know how long they take: fast, slow, lossy, failing and hanging ones."""

import math
import statistics
import threading
import time
from typing import Any

import pytest

from streamseg.benchmark.peers.peer import Peer
from streamseg.benchmark.peers.rows import PeersSchedule, Rate, time_peers, why
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.run import Spread

QUICK = PeersSchedule(rounds=3, block_seconds=0.0, run_rounds=2, run_frames=10, calibration_frames=0)


class Fake:
    """Sleeps in each call, and keeps how long that really took."""

    def __init__(self, milliseconds: float, frames: int = 1) -> None:
        self.seconds, self.frames = milliseconds / 1e3, frames
        self.took_ms: list[float] = []

    def __call__(self) -> int:
        began = time.monotonic_ns()
        time.sleep(self.seconds)
        self.took_ms.append((time.monotonic_ns() - began) / 1e6)
        return self.frames


def timed(kind: str, peers: list[Peer], **options: Any) -> tuple[dict[str, PeerRow], dict[str, str]]:
    absent: dict[str, str] = {}
    rows = time_peers(kind, peers, QUICK, absent, lambda _: None, **options)
    return {row.name: row for row in rows}, absent


def test_a_known_delay_is_measured_and_ours_is_twice_as_fast() -> None:
    own, other = Fake(20), Fake(40)
    peers = [Peer("ours", "ours", "fp32", own), Peer("theirs", "ours", "fp32", other, version="theirs 1.2")]
    rows, absent = timed("runtime", peers)
    assert absent == {}
    for name, fake in (("ours", own), ("theirs", other)):
        row = rows[name]
        assert (row.bench, row.key, row.kind) == ("peers", f"runtime {name}", "runtime")
        assert row.calls == 9
        # 2 calls to find out how long they take; of each block one that leads in.
        counted = [ms for block in range(3) for ms in fake.took_ms[2 + 4 * block :][1:4]]
        assert row.latency_ms.p50 == pytest.approx(statistics.median(counted), rel=0.02)
        assert row.fps == pytest.approx(9e3 / sum(counted), rel=0.02)
        assert [len(block) for block in row.durations_ms] == [3, 3, 3]
        assert {"gflop", "parameters", "normalisations", "difference", "mask_dice", "ready_s"} <= set(
            row.to_json()
        )
    expected = statistics.median(other.took_ms) / statistics.median(own.took_ms)
    assert rows["theirs"].ratio.median == pytest.approx(expected, rel=0.1)
    assert rows["ours"].ratio == Spread(median=1.0, min=1.0, max=1.0)
    assert rows["ours"].ours is True
    assert rows["ours"].why is None
    assert rows["theirs"].version == "theirs 1.2"


def test_a_peer_that_is_faster_has_a_ratio_below_one() -> None:
    rows, _ = timed("net", [Peer("ours", "ours", "fp32", Fake(20)), Peer("fast", "ours", "fp32", Fake(2))])
    assert rows["fast"].ratio.median < 0.9
    assert rows["fast"].fps > rows["ours"].fps


def test_pipelines_are_timed_by_whole_runs() -> None:
    own = Fake(20, frames=10)
    rows, _ = timed("pipeline", [Peer("ours", "ours", "int8", own, frames=10)])
    row = rows["ours"]
    assert len(own.took_ms) == 3  # one to warm up
    assert row.fps == pytest.approx(20e3 / sum(own.took_ms[1:]), rel=0.02)
    assert row.rounds["frame_ms"] == pytest.approx([ms / 10 for ms in own.took_ms[1:]], rel=0.02)
    assert (row.frames, row.delivered, row.notes) == (10, 10, [])
    assert row.to_json()["latency_ms"] is None
    assert row.durations_ms is None


def test_a_pipeline_that_loses_frames_is_noted_and_gains_nothing() -> None:
    peers = [
        Peer("ours", "ours", "int8", Fake(20, frames=10), frames=10),
        Peer("loses", "ours", "int8", Fake(20, frames=5), frames=10),
        Peer("writes less", "ours", "int8", Fake(20, frames=10), frames=10, delivered=lambda: 4),
        Peer("repeats", "ours", "int8", Fake(20, frames=20), frames=10),
    ]
    rows, _ = timed("pipeline", peers)
    assert rows["loses"].notes == ["5 of 10 frames came out"]
    assert rows["loses"].ratio.median == pytest.approx(2, rel=0.2)
    assert rows["writes less"].notes == ["4 of 10 frames came out"]
    assert rows["writes less"].delivered == 4
    assert rows["repeats"].notes == ["20 of 10 frames came out"]
    assert rows["repeats"].fps == pytest.approx(rows["ours"].fps, rel=0.2)


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
        Peer("ours", "ours", "fp32", Fake(1)),
        Peer("fails", "ours", "fp32", fails),
        Peer("hangs", "ours", "fp32", hangs),
        Peer("gives nothing", "ours", "fp32", lambda: 0),
        Peer("unreadable", "ours", "fp32", lambda: 1, delivered=unreadable),
    ]
    rows, absent = timed("runtime", peers, stall_s=0.8)
    release.set()
    assert set(rows) == {"ours"}
    assert absent["runtime fails"] == "out of luck"
    assert "no answer within" in absent["runtime hangs"]
    assert absent["runtime gives nothing"] == "no frame came out"
    assert absent["runtime unreadable"] == "no such video"


def test_without_ours_there_is_no_ratio() -> None:
    rows, _ = timed("net", [Peer("theirs", "ours", "fp32", Fake(1))])
    assert rows["theirs"].to_json()["ratio"] is None
    assert rows["theirs"].notes == ["no ratio: ours was not measured"]
    assert timed("net", []) == ({}, {})


def test_a_stall_shows_in_the_tail() -> None:
    calls = [0]

    def stalls() -> int:
        calls[0] += 1
        time.sleep(0.2 if calls[0] == 5 else 0.001)
        return 1

    row = timed("runtime", [Peer("stalls", "stalls", "fp32", stalls)])[0]["stalls"]
    assert row.latency_ms.max >= 200
    assert row.latency_ms.p99 > row.latency_ms.p50


def test_processor_time_is_per_frame() -> None:
    def works() -> int:
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            math.sqrt(2)
        return 10

    peers = [Peer("ours", "ours", "int8", works, frames=10), Peer("idle", "ours", "int8", Fake(10, 10))]
    rows, _ = timed("pipeline", peers)
    assert rows["ours"].processor_ms >= 3


def test_why_is_computed_from_figures() -> None:
    rate = Rate(delivered=1, fps=20.0, frame_ms=(50.0,), busy_ms=90.0, notes=())
    fast = Rate(delivered=1, fps=60.0, frame_ms=(16.0,), busy_ms=30.0, notes=())
    own = Peer("ours", "ours", "fp32", lambda: 1, facts={"gflop": 10.0})
    same = Peer("same", "ours", "fp32", lambda: 1, facts={"gflop": 10.0})
    less = Peer("less", "ours", "bf16", lambda: 1, facts={"gflop": 2.5})
    assert why(same, own, rate, fast) == "the same 10.0 GFLOP; 200 GFLOP/s, ours 600"
    words = why(less, own, fast, rate)
    assert "2.5 GFLOP, ours 10.0" in words
    assert "computes in bf16, ours in fp32" in words
    plain = Peer("plain", "ours", "int8", lambda: 1, remark="does one after the other")
    assert why(plain, Peer("ours", "ours", "int8", lambda: 1, remark="does more"), rate, fast) == (
        "it does one after the other; ours does more; 90.0 ms of processor time per frame, ours 30.0"
    )


def test_whole_runs_over_hardly_any_frames_are_noted() -> None:
    rows, _ = timed("pipeline", [Peer("ours", "ours", "int8", lambda: 1, frames=1)])
    assert rows["ours"].notes == [
        "runs over fewer than 8 frames are mostly their beginning and end; give a longer clip"
    ]
