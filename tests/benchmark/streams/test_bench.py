"""Numbers of streams: what is held, what is left out, and the rows of both."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.benchmark.live_probe import LiveOutcome, Offer
from streamseg.benchmark.provenance import OtherLoad
from streamseg.benchmark.rotation import STOPPED
from streamseg.benchmark.rows.reading import COMMON, read_rows
from streamseg.benchmark.rows.run import write_rows
from streamseg.benchmark.streams import bench as streams
from streamseg.benchmark.streams.bench import StreamsOptions, StreamsRun, measure_streams, run_streams
from streamseg.benchmark.terminal import lines
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.errors import EngineError, StallError, UsageError
from streamseg.core.types import InputSpec, Tensor
from tests.backends.small_engines import info_of, small_model
from tests.benchmark.fakes import SPEC, Clock, SelfTimed, noise_clip, small_kernels
from tests.benchmark.fakes import live_outcome as stream

__all__ = ["small_kernels"]
CLIP = noise_clip()
SHORT = Offer(fps=30, seconds=0.2, warm_s=0.1, draw=False)

FIELDS = {
    "streams", "source_fps", "budget_ms", "engine", "batch", "lanes", "offered", "processed", "dropped",
    "per_stream", "processed_fps", "age_ms", "within_budget", "holds_budget", "holds_every_frame",
    "processor_share", "batch_fill", "page_age_ms", "engine_fps", *COMMON,
}  # fmt: skip


@pytest.fixture(autouse=True)
def memory_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is taken for a clip's file."""
    monkeypatch.setattr("streamseg.benchmark.run.open_clip", lambda source, folder, frames: CLIP)
    monkeypatch.setattr(streams, "BARE_S", 0.01)


def options(**changes: Any) -> StreamsOptions:
    values = {"load": lambda many: FakeBackend(SPEC), "counts": (2, 1), "offer": SHORT, "rounds": 2} | changes
    return StreamsOptions(**values)


def scripted(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[int]:
    """Runs that did not happen: ``answer`` gets the number of streams and that of the call."""
    asked: list[int] = []

    def run(clip: object, backend: object, count: int, offer: Offer) -> StreamsRun:
        asked.append(count)
        found = answer(count, len(asked) - 1)
        if isinstance(found, BaseException):
            raise found
        return found if isinstance(found, StreamsRun) else StreamsRun((found,) * count, 0.5, 1.0)

    monkeypatch.setattr(streams, "run_streams", run)
    return asked


def test_a_slow_machine_gets_fewer_rounds_and_what_finds_no_time_is_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()

    def answer(count: int, _: int) -> LiveOutcome:
        clock.work(4000)()
        return stream()

    asked = scripted(monkeypatch, answer)
    rows = measure_streams(options(rounds=3, limit=TimeLimit(10, clock_ns=clock)))
    assert asked == [1, 2]
    assert [row.notes for row in rows] == [["measured in 1 of 3 rounds: the run was to end in time"]] * 2
    assert rows[0].run.regime["total_seconds"] == 10
    (row,) = measure_streams(options(rounds=3, limit=TimeLimit(3, clock_ns=clock)))
    assert row.streams == 1
    assert row.run.absent == {"2 streams": TOO_LATE}


def test_a_row_per_number_of_streams_with_all_that_a_row_has(tmp_path: Path) -> None:
    loaded = FakeBackend(SPEC)
    told: list[str] = []
    rows = measure_streams(options(load=lambda many: loaded, arguments=("bench", "streams")), told.append)
    assert [row.key for row in rows] == ["1 stream", "2 streams"]
    for row in rows:
        assert row.to_json().keys() == FIELDS
        assert row.bench == "streams"
        assert len(row.per_stream) == row.streams
        assert row.offered == row.streams * SHORT.counted * 2 == row.processed + row.dropped
        assert row.offered == sum(each.offered for each in row.per_stream)
        assert {name: len(values) for name, values in row.rounds.items()} == {
            "processed_fps": 2, "age_p50_ms": 2, "age_p99_ms": 2,
        }  # fmt: skip
        assert row.engine.name == "fake"
        assert row.run.command == "streamseg bench streams"
        assert row.run.regime["rounds"] == 2
        assert row.run.stopped is False
        assert row.run.limits["fp32"].giga_per_s > 0
    assert loaded.closed
    assert told[0] == "measuring the machine's limits"
    assert len(told) == 5
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == rows
    assert "This machine holds" in lines(rows)[-1]


def test_numbers_of_streams_take_turns_every_other_round_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scripted(monkeypatch, lambda count, call: stream())
    measure_streams(options(counts=(4, 1, 2, 2), rounds=3))
    assert asked == [1, 2, 4, 4, 2, 1, 1, 2, 4]


@pytest.mark.parametrize(
    ("each", "budget", "every"),
    [
        (stream(), True, True),
        (stream(processed=20), True, False),  # a third was dropped
        (stream(processed=4), False, False),  # too few to live by
        (stream(in_time=29), False, False),  # one in thirty too late
        (stream(displayed=25), True, True),  # newer ones came before five of them were drawn
        (stream(displayed=4), False, False),  # hardly any was ever seen
        (stream(processed=0), False, False),
    ],
)
def test_when_streams_are_held(
    monkeypatch: pytest.MonkeyPatch, each: LiveOutcome, budget: bool, every: bool
) -> None:
    scripted(monkeypatch, lambda count, call: each)
    row = measure_streams(options(counts=(2,)))[0]
    assert (row.holds_budget, row.holds_every_frame) == (budget, every)
    json.dumps(row.to_json(), allow_nan=False)
    assert lines([row])


def test_one_stream_that_starves_is_not_hidden_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    run = StreamsRun((stream(), stream(), stream(processed=2, in_time=1)), 0.5, 1.0)
    scripted(monkeypatch, lambda count, call: run)
    row = measure_streams(options(counts=(3,), rounds=1))[0]
    assert not row.holds_budget
    assert row.within_budget == 0.5
    assert [each.processed for each in row.per_stream] == [30, 30, 2]


def test_rounds_are_pooled_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda count, call: stream(processed=30 - 10 * call, age_ms=10 + 10 * call))
    row = measure_streams(options(counts=(1,)))[0]
    assert (row.offered, row.processed, row.dropped) == (60, 50, 10)
    assert row.processed_fps == 25
    assert row.rounds == {"processed_fps": [30, 20], "age_p50_ms": [10, 20], "age_p99_ms": [10, 20]}
    assert row.age_ms.max == 20


def test_a_number_of_streams_that_fails_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scripted(monkeypatch, lambda count, call: EngineError("it\nbroke") if count == 2 else stream())
    rows = measure_streams(options(counts=(1, 2, 4)))
    assert [row.streams for row in rows] == [1, 4]
    assert rows[0].run.absent == {"2 streams": "it broke"}
    assert asked == [1, 2, 4, 4, 1]
    assert "Absent: 2 streams: it broke" in lines(rows)


def test_an_engine_that_hangs_ends_it_with_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scripted(monkeypatch, lambda count, call: StallError("no answer") if count == 2 else stream())
    rows = measure_streams(options(counts=(1, 2, 4)))
    assert asked == [1, 2]
    assert [row.streams for row in rows] == [1]
    assert rows[0].run.absent == {"2 streams": "no answer", "4 streams": "the engine hung before"}


def test_ctrl_c_keeps_the_runs_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda count, call: KeyboardInterrupt() if call == 2 else stream())
    rows = measure_streams(options(counts=(1, 2, 4)))
    assert [row.streams for row in rows] == [1, 2]
    run = rows[0].run
    assert run.stopped is True
    assert run.absent == {"4 streams": STOPPED}
    assert "Absent: 4 streams: " + STOPPED in lines(rows)
    scripted(monkeypatch, lambda count, call: KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        measure_streams(options())


def test_an_engine_that_hangs_from_the_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("streamseg.backends.shared.CLOSE_S", "streamseg.benchmark.streams.bench.WARM_UP_S"):
        monkeypatch.setattr(place, 0.05)
    free = threading.Event()

    class Hanging(FakeBackend):
        def infer(self, tensor: Tensor) -> np.ndarray:
            free.wait(60)
            return super().infer(tensor)

    with pytest.raises(StallError, match="no answer"):
        measure_streams(options(load=lambda many: Hanging(SPEC)))
    free.set()


def test_an_engine_that_cannot_be_closed_does_not_block_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.benchmark.run.CLOSE_S", 0.05)
    scripted(monkeypatch, lambda count, call: stream())
    free = threading.Event()

    class Wedged(FakeBackend):
        def close(self) -> None:
            free.wait(60)

    assert len(measure_streams(options(load=lambda many: Wedged(SPEC)))) == 2
    free.set()


def test_nothing_measured_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda count, call: EngineError("it broke"))
    with pytest.raises(EngineError, match="1 stream: it broke"):
        measure_streams(options(counts=(1,)))


def test_large_numbers_of_streams_are_skipped_if_fewer_were_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = scripted(monkeypatch, lambda count, call: stream(in_time=0 if count >= 4 else None))
    rows = measure_streams(options(counts=(1, 4, 8, 16), rounds=2))
    assert asked == [1, 4, 8, 8, 4, 1]
    assert rows[0].run.absent == {"16 streams": "skipped: already 4 streams missed the budget"}


def test_few_streams_share_the_engine_for_latency_and_many_that_for_throughput(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[FakeBackend] = []
    used: dict[int, int] = {}

    def load(many: bool) -> FakeBackend:
        made.append(FakeBackend(SPEC, lanes=3 if many else 1))
        return made[-1]

    def run(clip: object, backend: FakeBackend, count: int, offer: Offer) -> StreamsRun:
        used[count] = backend.info.lanes
        return StreamsRun((stream(),) * count, None, None)

    monkeypatch.setattr(streams, "run_streams", run)
    rows = measure_streams(options(load=load, counts=(1, 2, 3, 8)))
    assert used == {1: 1, 2: 1, 3: 3, 8: 3} == {row.streams: row.lanes for row in rows}
    assert len(made) == 2
    assert all(engine.calls and engine.closed for engine in made)
    measure_streams(options(load=load, counts=(3, 8)))
    assert len(made) == 3


@pytest.mark.parametrize("wrong", [{"counts": ()}, {"counts": (0,)}, {"counts": (1000,)}, {"rounds": 0}])
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot be measured"):
        options(**wrong)


class Batched(FakeBackend):
    """Takes four frames at a time, each call as long as one."""

    def __init__(self) -> None:
        super().__init__(SPEC, batch=4)

    def infer(self, tensor: Tensor) -> np.ndarray:
        return np.stack([super(Batched, self).infer(row[None]) for row in tensor])


def test_a_batch_is_filled_from_several_streams() -> None:
    held = threading.Semaphore(1)  # one call at a time, however many ask

    class Once(Batched):
        def infer(self, tensor: Tensor) -> np.ndarray:
            assert held.acquire(blocking=False)
            try:
                threading.Event().wait(0.03)
                return super().infer(tensor)
            finally:
                held.release()

    rows = measure_streams(options(load=lambda many: Once(), counts=(1, 4), rounds=1))
    one, four = rows
    assert one.batch == four.batch == 4
    assert one.batch_fill == 1
    assert four.batch_fill > 1


def test_a_real_engine_of_several_frames() -> None:
    spec = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)

    def load(many: bool) -> OpenVINOBackend:
        model = small_model(spec, batch=4)
        return OpenVINOBackend(model, info_of(spec, backend="openvino", batch=4), threads=1)

    row = measure_streams(options(load=load, counts=(3,), rounds=1))[0]
    assert row.processed > 0
    assert row.engine.backend == "openvino"
    assert 1 <= row.batch_fill <= 3


def test_an_engine_with_time_to_spare_drops_next_to_nothing() -> None:
    engine = SelfTimed([2.0])
    offer = Offer(fps=30, seconds=0.5, warm_s=0.1, draw=False)
    with OtherLoad() as others:
        run = run_streams(CLIP, engine, 2, offer)
    offered, processed, dropped = totals(run)
    assert offered == 2 * offer.counted == processed + dropped
    # Nothing can be said of the speed of a machine that is busy.
    busy = np.mean(engine.durations_ms) > 12 or (others.share or 0) > 0.2
    assert busy or processed >= 0.8 * offered
    assert run.fill == 1.0
    assert run.processor_share is None or 0 <= run.processor_share <= 1
    assert [each.notes for each in run.streams] == [(), ()]
    assert all(trace.age_ns > 0 for each in run.streams for trace in each.traces)
    assert "in time in the worst stream" in repr(run)


def test_too_many_streams_drop_what_the_engine_has_no_time_for_all_alike() -> None:
    engine = SelfTimed([10.0])
    offer = Offer(fps=30, seconds=1.0, warm_s=0, draw=False)
    run = run_streams(CLIP, engine, 8, offer)
    offered, processed, dropped = totals(run)
    assert offered == 8 * offer.counted == processed + dropped
    assert processed == len(engine.durations_ms)  # each call came out, once
    longest = max(each.seconds for each in run.streams)
    per_call = float(np.mean(engine.durations_ms)) / 1e3
    assert processed <= 1.02 * longest / per_call + 1  # no engine is faster than itself
    assert dropped >= 0.4 * offered
    each = [stream.processed for stream in run.streams]
    assert max(each) - min(each) <= 3 + 0.2 * max(each)  # nobody starves


def totals(run: StreamsRun) -> tuple[int, ...]:
    return tuple(sum(getattr(s, name) for s in run.streams) for name in ("offered", "processed", "dropped"))


def test_errors_of_the_engine_are_raised() -> None:
    with pytest.raises(EngineError, match="failed at call 5"):
        run_streams(CLIP, FakeBackend(SPEC, fail_at=5), 3, SHORT)


def test_an_engine_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("streamseg.backends.shared.CLOSE_S", "streamseg.live.loop.JOIN_S"):
        monkeypatch.setattr(place, 0.05)
    free = threading.Event()
    engine = SelfTimed(act=lambda call: free.wait(60) if call == 10 else None)
    began = time.monotonic()
    offer = Offer(fps=30, seconds=0.3, warm_s=0.1, stall_s=0.3, draw=False)
    with pytest.raises(StallError, match=r"gave no answer for 0\.3 s with 2 streams"):
        run_streams(CLIP, engine, 2, offer)
    assert time.monotonic() - began < 30
    free.set()


@pytest.mark.parametrize("count", [1, 3])
def test_a_page_reads_all_streams_and_says_how_old_outlines_are(count: int) -> None:
    offer = Offer(fps=30, seconds=1.0, warm_s=0.2, budget_s=30.0)
    run = run_streams(CLIP, SelfTimed([2.0]), count, offer)
    assert len(run.page_ages) == count
    for ages, found in zip(run.page_ages, run.streams, strict=True):
        assert ages
        assert all(0 < age < 30e9 for age in ages)
        assert len(ages) <= found.displayed


def test_the_engine_alone_is_measured_in_turn_with_its_streams() -> None:
    engine = SelfTimed([1.0])
    row = measure_streams(options(load=lambda many: engine, counts=(2,)))[0]
    assert row.engine_fps > 0
    assert row.page_age_ms.p50 is None, "nobody read the page"


def test_streams_of_more_frames_than_any_source_are_refused() -> None:
    with pytest.raises(UsageError, match="give 1000 or fewer"):
        options(offer=Offer(fps=2000))
