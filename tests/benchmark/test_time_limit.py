"""The time by which a benchmark is to end, on a clock of its own."""

from __future__ import annotations

import threading
import time

import pytest

from streamseg.benchmark.time_limit import TimeLimit, rounds_note
from tests.benchmark.fakes import Clock


def test_what_is_left_and_what_fits() -> None:
    clock = Clock()
    clock.ns = 7_000_000_000
    limit = TimeLimit(10, clock_ns=clock)
    assert limit.left_s == 10
    assert limit.fits()
    assert limit.fits(9.9)
    assert not limit.fits(10)
    clock.ns += 8_000_000_000
    assert limit.left_s == 2
    assert not limit.fits(3)
    clock.ns += 5_000_000_000
    assert limit.left_s == 0
    assert not limit.fits()


def test_a_part_is_of_what_is_left() -> None:
    clock = Clock()
    limit = TimeLimit(10, clock_ns=clock)
    clock.ns += 6_000_000_000
    part = limit.part(0.25)
    assert part.left_s == 1
    clock.ns += 1_000_000_000
    assert not part.fits()
    assert limit.left_s == 3


def test_by_default_there_is_time_for_everything() -> None:
    limit = TimeLimit()
    assert limit.seconds is None
    assert limit.part(0.1).fits(1e9)
    with limit.enforced(grace_s=0):
        pass
    assert not limit.interrupted


def test_a_step_that_goes_on_for_too_long_is_interrupted_even_while_it_waits() -> None:
    limit = TimeLimit(0.05)
    with pytest.raises(KeyboardInterrupt), limit.enforced(grace_s=0.05):
        threading.Event().wait(60)
    assert limit.interrupted


def test_a_step_that_ends_in_time_or_in_another_thread_is_not_interrupted() -> None:
    limit = TimeLimit(0.0)
    with limit.enforced(grace_s=30):
        pass
    assert not limit.interrupted
    done: list[bool] = []

    def other() -> None:
        with limit.enforced(grace_s=0):
            time.sleep(0.05)
        done.append(limit.interrupted)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert done == [False]


@pytest.mark.parametrize(
    ("done", "wanted", "noted"), [(3, 7, False), (2, 7, True), (2, 2, False), (1, 2, True), (5, 5, False)]
)
def test_rows_of_fewer_than_three_rounds_say_so(done: int, wanted: int, noted: bool) -> None:
    words = [f"measured in {done} of {wanted} rounds: the run was to end in time"]
    assert rounds_note(done, wanted) == (words if noted else [])
