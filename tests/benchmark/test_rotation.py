"""Blocks that take turns: order, what counts, budgets, and what is left out."""

from __future__ import annotations

import pytest

from streamseg.benchmark.rotation import STOPPED, Rotation
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from tests.benchmark.fakes import Clock


def test_blocks_take_turns_and_the_warm_up_does_not_count() -> None:
    runs: list[str] = []
    rotation: Rotation[int] = Rotation("ab")

    def block(name: str) -> int:
        runs.append(name)
        return len(runs)

    rotation.warm_up(block, backwards=True)
    rotation.run(block, 3)
    assert "".join(runs) == "ba" + "ab" + "ba" + "ab"
    assert rotation.done == rotation.results == {"a": [3, 6, 7], "b": [4, 5, 8]}
    assert rotation.absent == {}


def test_a_block_that_fails_loses_no_other() -> None:
    def block(name: str) -> str:
        if name == "bad":
            raise RuntimeError("the driver\nis gone")
        return "fine"

    said: list[str] = []
    rotation: Rotation[str] = Rotation(["good", "bad"], say=said.append)
    rotation.warm_up(block)
    rotation.run(block, 2)
    assert rotation.done == {"good": ["fine", "fine"]}
    assert rotation.absent == {"bad": "the driver is gone"}
    assert said[:2] == ["bad is left out: the driver is gone", "round 1 of 2: good: 'fine'"]


def test_results_of_a_block_that_fails_later_do_not_count() -> None:
    calls: list[str] = []

    def block(name: str) -> int:
        calls.append(name)
        if len(calls) == 3:
            raise ValueError
        return 1

    rotation: Rotation[int] = Rotation("ab")
    rotation.run(block, 3)
    assert "".join(calls) == "ab" + "ba" + "a"
    assert rotation.done == {"a": [1, 1, 1]}
    assert rotation.absent == {"b": "ValueError"}


def test_a_failure_can_end_it_and_the_rest_is_absent() -> None:
    def block(name: str) -> int:
        if name == "b":
            raise TimeoutError("it hangs")
        return 1

    def stop(_: str, error: Exception) -> None:
        raise error

    rotation: Rotation[int] = Rotation("abc", on_failure=stop)
    with pytest.raises(TimeoutError):
        rotation.run(block, 2)
    rotation.leave_out_the_rest("b hung before")
    rotation.leave_out_the_rest()
    assert rotation.done == {"a": [1]}
    assert rotation.absent == {"b": "it hangs", "c": "b hung before"}


def test_ctrl_c_keeps_what_is_finished() -> None:
    def block(name: str) -> int:
        if name == "b":
            raise KeyboardInterrupt
        return 1

    rotation: Rotation[int] = Rotation("abc")
    with pytest.raises(KeyboardInterrupt):
        rotation.run(block, 2)
    rotation.leave_out_the_rest()
    assert rotation.done == {"a": [1]}
    assert rotation.absent == {"b": STOPPED, "c": STOPPED}


def test_no_round_begins_that_would_end_too_late() -> None:
    clock = Clock()
    take = clock.work(100, 100, 400, 100)
    rotation: Rotation[bool] = Rotation("a", limit=TimeLimit(clock_ns=clock))

    def block(_: str) -> bool:
        take()
        return True

    rotation.run(block, 10, budget_s=1.0)
    # The longest round took 0.4 s: none begins after 0.6 s, and the third ends at 0.6 s.
    assert len(rotation.done["a"]) == 4
    assert clock.ns == 700_000_000


@pytest.mark.parametrize(("block_s", "rounds"), [(1, 10), (4, 3), (6, 2), (8, 1), (30, 1)])
def test_the_time_limit_holds_for_all_rounds_and_the_first_ones_too(block_s: int, rounds: int) -> None:
    clock = Clock()
    take = clock.work(1000 * block_s)
    rotation: Rotation[int] = Rotation("ab", limit=TimeLimit(25, clock_ns=clock))
    rotation.run(lambda _: take() or 1, 10, budget_s=None, min_rounds=3)
    assert len(rotation.results["a"]) == rounds
    if block_s < 25:
        assert clock.ns <= 25_000_000_000
        assert rotation.absent == {}
    else:  # a block has begun and goes on; the next one is left out
        assert clock.ns == 30_000_000_000
        assert rotation.absent == {"b": TOO_LATE}
