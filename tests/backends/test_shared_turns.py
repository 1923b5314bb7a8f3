"""Streams that wait for their turn before they take a frame."""

import threading
import time

import pytest

from streamseg.backends.shared import Lane, SharedEngine
from streamseg.core.errors import EngineError
from tests.backends.sharing import LONG_S, Asking, Gate, Rows, tensor, until


class Turning(Asking):
    """Waits for its turn before it asks."""

    def __init__(self, lane: Lane, number: float) -> None:
        self.called = threading.Event()
        self._own = lane
        super().__init__(lane, number)

    def _ask(self) -> None:
        self._own.wait_turn()
        self.called.set()
        super()._ask()


def test_only_as_many_are_called_as_the_engine_takes_next() -> None:
    gate = Gate()
    engine = Rows(work=gate)
    with SharedEngine(engine) as shared:
        served = Asking(shared.lane(), 0)
        assert gate.entered.wait(LONG_S)
        turning = []
        for number in (1, 2, 3):
            turning.append(Turning(shared.lane(), number))
            until(lambda: len(shared._turns) + len(shared._waiting) == len(turning))
        assert [each.called.is_set() for each in turning] == [True, False, False]
        gate.opened.set()
        assert all(each.over().answer is not None for each in [served, *turning])
        assert [given[0] for given in engine.given] == [0, 1, 2, 3]


def test_with_turns_no_stream_gets_anothers_answer_and_nobody_starves() -> None:
    engine = Rows(batch=2, work=lambda call: time.sleep(0.002))
    counts = [0] * 6
    wrong: list[float] = []
    ended = threading.Event()

    def stream(number: int, lane: Lane) -> None:
        while not ended.is_set():
            lane.wait_turn()
            if not (lane.infer(tensor(number)) == number).all():
                wrong.append(number)
            counts[number] += 1

    with SharedEngine(engine) as shared:
        threads = [
            threading.Thread(target=stream, args=(number, shared.lane()), daemon=True) for number in range(6)
        ]
        for thread in threads:
            thread.start()
        until(lambda: sum(counts) >= 120)
        ended.set()
        for thread in threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
    assert wrong == []
    assert max(counts) - min(counts) <= 0.3 * max(counts) + 3


def test_a_turn_that_is_not_used_is_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.backends.shared.TURN_S", 0.01)
    with SharedEngine(Rows()) as shared:
        for _ in range(3):
            shared.lane().wait_turn()  # and nothing follows
        assert (shared.lane().infer(tensor(4)) == 4).all()  # nor needs one to wait for a turn


@pytest.mark.parametrize("whose", ["lane", "engine"])
def test_closing_ends_the_waiting_for_a_turn(monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    monkeypatch.setattr("streamseg.backends.shared.CLOSE_S", 0.01)
    gate = Gate()
    shared = SharedEngine(Rows(work=gate))
    first, second, third = (shared.lane() for _ in range(3))
    Asking(first, 1)
    assert gate.entered.wait(LONG_S)
    Asking(second, 2)
    until(lambda: len(shared._waiting) == 1)
    turning = Turning(third, 3)
    until(lambda: len(shared._turns) == 1)
    third.close() if whose == "lane" else shared.close()
    assert isinstance(turning.over().error, EngineError)
    third.wait_turn()  # returns
    gate.opened.set()
    shared.close()
