"""Interleaved timing by a clock that only the timed calls move, and giving up on calls that hang."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from streamseg.benchmark.rows.run import Spread
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.benchmark.timing import (
    CallTimeout,
    Timing,
    add_rounds,
    calls_for,
    interleave,
    seconds_of,
    speedup,
)
from streamseg.core.errors import StallError
from tests.benchmark.fakes import MS, Clock


def test_known_delays_are_measured() -> None:
    clock = Clock()
    calls = {"slow": clock.work(40, 44, 48), "quick": clock.work(20)}
    found = interleave(calls, rounds=3, per_round=3, warmup=0, limit=TimeLimit(clock_ns=clock))
    assert found["slow"].rounds_ns == ((40 * MS, 44 * MS, 48 * MS),) * 3
    assert (found["slow"].median_ms, found["slow"].rate) == (44, pytest.approx(9e3 / 396))
    assert found["quick"].durations_ns == [20 * MS] * 9
    assert found["quick"].to_json() == [[20.0] * 3] * 3
    assert speedup(found["quick"], found["slow"]).median == 2.2


def test_a_sleep_is_measured_by_the_real_clock() -> None:
    took: list[int] = []

    def sleeps() -> None:  # and records for how long: a busy machine sleeps longer
        began = time.monotonic_ns()
        time.sleep(0.02)
        took.append(time.monotonic_ns() - began)

    began = time.monotonic_ns()
    found = interleave({"sleeps": sleeps}, rounds=1, per_round=3)["sleeps"]
    whole = time.monotonic_ns() - began
    # A busy machine may stop us between two readings of a clock, so these are all the bounds that there are.
    measured = found.durations_ns
    assert all(outer >= inner for outer, inner in zip(measured, took[1:], strict=True))
    assert sum(measured) + took[0] <= whole
    assert found.median_ms == pytest.approx(sorted(measured)[1] / 1e6)
    assert found.rate == pytest.approx(3e9 / sum(measured))


def test_a_stall_shows_in_the_tail_and_is_not_removed() -> None:
    clock = Clock()
    found = interleave(
        {"stalls": clock.work(*[2] * 9, 120)},
        rounds=2,
        per_round=10,
        warmup=0,
        limit=TimeLimit(clock_ns=clock),
    )["stalls"]
    assert found.percentiles.max_ms == 120
    assert found.percentiles.p99_ms > 60
    assert found.median_ms == 2
    assert found.rate == pytest.approx(20e3 / 276)


def test_rounds_alternate_and_what_does_not_count_is_left_out() -> None:
    order: list[str] = []
    variants = {name: (lambda name=name: order.append(name)) for name in "ab"}
    found = interleave(variants, rounds=2, per_round={"a": 2, "b": 1}, warmup={"a": 1, "b": 0}, lead_in=1)
    assert "".join(order) == "a" + "aaa" + "bb" + "bb" + "aaa"
    assert [len(block) for block in found["a"].rounds_ns] == [2, 2]
    assert [len(block) for block in found["b"].rounds_ns] == [1, 1]


def test_work_that_has_only_begun_is_waited_for_before_the_clock_is_read() -> None:
    clock, waits = Clock(), [0]
    wait = clock.work(15)

    def synchronize() -> None:
        waits[0] += 1
        wait()

    found = interleave(
        {"begins": lambda: None},
        rounds=1,
        per_round=2,
        synchronize=synchronize,
        limit=TimeLimit(clock_ns=clock),
    )
    assert waits == [3]  # before the block, and at the end of each call
    assert found["begins"].durations_ns == [15 * MS] * 2


@pytest.mark.parametrize(
    ("call_ms", "budget_s", "least", "rounds"),
    [(30, 0.0, 1, 1), (5, 0.0, 3, 3), (30, 0.2, 1, 6), (30, 9, 1, 50)],
)
def test_the_budget_ends_it_after_the_first_rounds(
    call_ms: float, budget_s: float, least: int, rounds: int
) -> None:
    clock = Clock()
    found = interleave(
        {"a": clock.work(call_ms)},
        rounds=50,
        budget_s=budget_s,
        min_rounds=least,
        limit=TimeLimit(clock_ns=clock),
    )
    assert len(found["a"].rounds_ns) == rounds


def test_a_variant_that_finds_no_time_is_left_out() -> None:
    clock, failed = Clock(), dict[str, str]()
    found = interleave(
        {"slow": clock.work(30), "late": clock.work(1)},
        rounds=5,
        warmup=0,
        limit=TimeLimit(0.02, clock_ns=clock),
        on_failure=lambda name, error: failed.update({name: str(error)}),
    )
    assert found == {"slow": Timing(((30 * MS,),))}
    assert failed == {"late": TOO_LATE}


def test_nothing_to_time_is_refused() -> None:
    for variants, rounds, per_round in (({}, 1, 1), ({"a": print}, 0, 1), ({"a": print}, 1, 0)):
        with pytest.raises(ValueError, match="nothing to time"):
            interleave(variants, rounds=rounds, per_round=per_round)


def test_an_error_of_a_variant_ends_the_measurement() -> None:
    def fails() -> None:
        raise RuntimeError("broken engine")

    with pytest.raises(RuntimeError, match="broken engine"):
        interleave({"good": lambda: None, "bad": fails}, rounds=1)


def test_a_ratio_is_taken_within_a_round() -> None:
    quick, slow = (Timing(((1 * MS,) * 3, (2 * MS,))), Timing(((4 * MS,) * 3, (6 * MS,))))
    assert speedup(quick, slow) == Spread(median=3.5, min=3.0, max=4.0)
    assert speedup(quick, slow).to_json() == {"median": 3.5, "min": 3.0, "max": 4.0}
    assert quick.medians_ms == [1.0, 2.0]
    assert "4 calls in 2 rounds" in repr(quick)


def test_further_rounds_are_appended() -> None:
    timings = {"a": Timing(((1,),))}
    add_rounds(timings, {"a": Timing(((2,), (3,))), "b": Timing(((4,),))})
    assert timings["a"].rounds_ns == ((1,), (2,), (3,))
    assert timings["b"].rounds_ns == ((4,),)


def test_calls_fill_a_block() -> None:
    assert calls_for(0.02, 0.5) == 25
    assert calls_for(12.0, 0.5) == 1
    assert calls_for(0.0, 1.0, limit=100) == 100
    clock = Clock()
    assert seconds_of(clock.work(10, 20, 30), warmup=2, clock_ns=clock) == 0.03
    assert clock.ns == 60 * MS


def test_a_variant_that_raises_or_stalls_is_left_out_and_reported() -> None:
    """Others keep their rounds: what was measured is not lost by one that fails."""
    calls = Counter[str]()
    release = threading.Event()

    def broken() -> None:
        calls["broken"] += 1
        if calls["broken"] == 4:
            raise RuntimeError("it broke")

    def stalling() -> None:
        calls["stalling"] += 1
        if calls["stalling"] == 3:
            release.wait(20)

    told: dict[str, Exception] = {}
    found = interleave(
        {"broken": broken, "good": lambda: None, "stalling": stalling},
        rounds=5,
        stall_s=0.2,
        on_failure=told.__setitem__,
    )
    release.set()
    assert set(found) == {"good"}
    assert len(found["good"].rounds_ns) == 5
    assert isinstance(told["broken"], RuntimeError)
    assert isinstance(told["stalling"], StallError)


def test_answers_and_errors_pass_through() -> None:
    with CallTimeout(5) as timeout:
        assert timeout.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            timeout.run(lambda: 1 / 0)


def test_all_calls_run_in_one_thread() -> None:
    with CallTimeout(5) as timeout:
        idents = {timeout.run(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_a_call_that_hangs_is_left_behind() -> None:
    released = threading.Event()
    with CallTimeout(0.05) as timeout:
        with pytest.raises(StallError, match=r"no answer within 0\.05 s"):
            timeout.run(released.wait)
        timeout.limit_s = 5
        assert timeout.run(lambda: "next") == "next"
    released.set()


def test_ctrl_c_waits_for_the_call_that_is_going_on() -> None:
    """A library that computes while the interpreter goes away aborts the program."""
    over = threading.Event()

    def works() -> None:
        time.sleep(0.1)
        over.set()

    def interrupted() -> None:
        timeout.run(lambda: None)
        assert timeout._calls is not None
        timeout._calls.put(works)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), CallTimeout(30) as timeout:
        interrupted()
    assert over.is_set()
