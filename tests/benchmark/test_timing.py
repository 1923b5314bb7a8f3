"""Timing of fakes whose delay is known, because they measure it themselves."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from streamseg.benchmark.timing import CallTimeout, Spread, Timing, calls_for, interleave, seconds_of, speedup
from streamseg.core.errors import StallError

MS = 1_000_000


class Sleeper:
    """Sleeps, and keeps how long that really took: a busy machine sleeps longer."""

    def __init__(self, *milliseconds: float) -> None:
        self.milliseconds = milliseconds
        self.took_ns: list[int] = []

    def __call__(self) -> None:
        began = time.monotonic_ns()
        time.sleep(self.milliseconds[len(self.took_ns) % len(self.milliseconds)] / 1e3)
        self.took_ns.append(time.monotonic_ns() - began)


def median(values: list[int]) -> float:
    return sorted(values)[len(values) // 2]


def test_known_delays_are_measured_within_two_percent() -> None:
    fakes = {"slow": Sleeper(40), "quick": Sleeper(20)}
    found = interleave(fakes, rounds=3, per_round=3, warmup=1)
    for name, fake in fakes.items():
        counted = fake.took_ns[1:]
        assert len(found[name].durations_ns) == len(counted) == 9
        assert found[name].median_ms == pytest.approx(median(counted) / 1e6, rel=0.02)
        assert found[name].rate == pytest.approx(9e9 / sum(counted), rel=0.02)
    expected = median(fakes["slow"].took_ns[1:]) / median(fakes["quick"].took_ns[1:])
    assert speedup(found["quick"], found["slow"]).median == pytest.approx(expected, rel=0.1)


def test_a_stall_shows_in_the_tail_and_is_not_removed() -> None:
    fake = Sleeper(*[2] * 9, 120)
    found = interleave({"stalls": fake}, rounds=2, per_round=10, warmup=0)["stalls"]
    assert found.percentiles.max_ms >= 120
    assert found.percentiles.p99_ms > 60
    assert found.median_ms < 60
    assert found.rate == pytest.approx(20e9 / sum(fake.took_ns), rel=0.02)


def test_rounds_alternate_and_what_does_not_count_is_left_out() -> None:
    order: list[str] = []
    variants = {name: (lambda name=name: order.append(name)) for name in "ab"}
    found = interleave(variants, rounds=2, per_round={"a": 2, "b": 1}, warmup={"a": 1, "b": 0}, lead_in=1)
    assert "".join(order) == "a" + "aaa" + "bb" + "bb" + "aaa"
    assert [len(block) for block in found["a"].rounds_ns] == [2, 2]
    assert [len(block) for block in found["b"].rounds_ns] == [1, 1]


def test_work_that_has_only_begun_is_waited_for_before_the_clock_is_read() -> None:
    waits = Sleeper(15)
    found = interleave({"begins": lambda: None}, rounds=1, per_round=2, synchronize=waits)["begins"]
    assert len(waits.took_ns) == 3  # before the block, and at the end of each call
    assert min(found.durations_ns) >= 15 * MS


def test_the_budget_ends_it_but_for_the_first_rounds() -> None:
    assert len(interleave({"a": Sleeper(30)}, rounds=50, budget_s=0.0)["a"].rounds_ns) == 1
    assert len(interleave({"a": Sleeper(5)}, rounds=50, budget_s=0.0, least_rounds=3)["a"].rounds_ns) == 3
    rounds = len(interleave({"a": Sleeper(30)}, rounds=50, budget_s=0.2)["a"].rounds_ns)
    assert 1 <= rounds <= 7


def test_nothing_to_time_is_refused() -> None:
    for variants, rounds, per_round in (({}, 1, 1), ({"a": print}, 0, 1), ({"a": print}, 1, 0)):
        with pytest.raises(ValueError, match="nothing to time"):
            interleave(variants, rounds=rounds, per_round=per_round)


def test_what_a_variant_raises_ends_the_measurement() -> None:
    def fails() -> None:
        raise RuntimeError("broken engine")

    with pytest.raises(RuntimeError, match="broken engine"):
        interleave({"good": lambda: None, "bad": fails}, rounds=1)


def test_a_ratio_is_taken_within_a_round() -> None:
    quick, slow = (Timing(((1 * MS,) * 3, (2 * MS,))), Timing(((4 * MS,) * 3, (6 * MS,))))
    assert speedup(quick, slow) == Spread(3.5, 3.0, 4.0)
    assert speedup(quick, slow).to_json() == {"median": 3.5, "min": 3.0, "max": 4.0}
    assert quick.medians_ms == [1.0, 2.0]
    assert "4 calls in 2 rounds" in repr(quick)


def test_calls_fill_a_block() -> None:
    assert calls_for(0.02, 0.5) == 25
    assert calls_for(12.0, 0.5) == 1
    assert calls_for(0.0, 1.0, most=100) == 100
    fake = Sleeper(10)
    seconds = seconds_of(fake, warmup=2)
    assert len(fake.took_ns) == 3
    assert seconds == pytest.approx(fake.took_ns[-1] / 1e9, rel=0.05)


def test_a_variant_that_raises_or_stalls_is_left_out_and_told() -> None:
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
        stall_s=0.3,
        on_failure=told.__setitem__,
    )
    release.set()
    assert set(found) == {"good"}
    assert len(found["good"].rounds_ns) == 5
    assert isinstance(told["broken"], RuntimeError)
    assert isinstance(told["stalling"], StallError)


def test_answers_and_errors_pass_through() -> None:
    with CallTimeout(5) as watch:
        assert watch.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            watch.run(lambda: 1 / 0)


def test_all_calls_run_in_one_thread() -> None:
    with CallTimeout(5) as watch:
        idents = {watch.run(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_what_hangs_is_left_behind() -> None:
    released = threading.Event()
    with CallTimeout(0.05) as watch:
        with pytest.raises(StallError, match=r"no answer within 0\.05 s"):
            watch.run(released.wait)
        watch.limit_s = 5
        assert watch.run(lambda: "next") == "next"
    released.set()


def test_ctrl_c_waits_for_the_call_that_is_going_on() -> None:
    """A library that computes while the interpreter goes away aborts the program."""
    over = threading.Event()

    def works() -> None:
        time.sleep(0.3)
        over.set()

    def interrupted() -> None:
        watch.run(lambda: None)
        assert watch._calls is not None
        watch._calls.put(works)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), CallTimeout(30) as watch:
        interrupted()
    assert over.is_set()
