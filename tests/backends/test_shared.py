"""One engine for several streams: each gets its own answer in turn, and none waits for ever."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.backends.shared import RECENT, Forecast, Lane, SharedEngine
from streamseg.core.errors import EngineError
from streamseg.core.types import Backend, Frame, InputSpec, Tensor
from streamseg.segmentation.segmenter import Segmenter
from tests.backends.small_engines import info_of, small_model

SPEC = InputSpec(16, 24, mean=0.0, std=1.0, threshold=0.5, min_area=0.001)
LONG_S = 30.0


def tensor(number: float) -> Tensor:
    return np.full((1, 1, SPEC.height, SPEC.width), number, np.float32)


class Rows:
    """An engine of any batch that answers each frame with its own values, and notes what it was given."""

    name, fingerprint, spec, precision, trained = "rows", "f" * 64, SPEC, "int8", False

    def __init__(self, batch: int = 1, lanes: int = 1, work: Callable[[int], object] = lambda call: None):
        self.batch, self.lanes, self.work = batch, lanes, work
        self.given: list[list[float]] = []
        self.closed = False
        self._lock = threading.Lock()

    def infer(self, tensor: Tensor) -> np.ndarray:
        assert tensor.shape == (self.batch, 1, SPEC.height, SPEC.width)
        with self._lock:
            self.given.append([float(row[0, 0, 0]) for row in tensor])
            call = len(self.given) - 1
        self.work(call)
        return (tensor[0] if self.batch == 1 else tensor).copy()

    def close(self) -> None:
        self.closed = True


class Asking:
    """A thread that asks one thing of a lane."""

    def __init__(self, lane: Backend, number: float) -> None:
        self.answer: np.ndarray | None = None
        self.error: BaseException | None = None
        self._lane, self._number = lane, number
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        try:
            self.answer = self._lane.infer(tensor(self._number))
        except BaseException as error:
            self.error = error

    def over(self) -> "Asking":
        self.thread.join(LONG_S)
        assert not self.thread.is_alive(), "it hangs"
        return self


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.001)


class Gate:
    """Holds an engine's call until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, call: int) -> None:
        self.entered.set()
        assert self.opened.wait(LONG_S)


@pytest.mark.parametrize("seed", range(6))
def test_no_stream_ever_gets_the_answer_of_another(seed: int) -> None:
    chance = random.Random(seed)
    batch, lanes, streams = chance.choice([1, 2, 4, 8]), chance.choice([1, 1, 3]), chance.randint(1, 9)
    engine = Rows(batch, lanes, lambda call: time.sleep((call * 7 % 4) / 2000))
    wrong: list[str] = []

    def stream(number: int, lane: Backend, pauses: list[float]) -> None:
        for count, pause in enumerate(pauses):
            asked = number * 100 + count
            time.sleep(pause)
            answer = lane.infer(tensor(asked))
            if answer.shape != (1, SPEC.height, SPEC.width) or not (answer == asked).all():
                wrong.append(f"{asked}: {answer}")
            answer[:] = -1  # it is the caller's own

    with SharedEngine(engine) as shared:
        threads = [
            threading.Thread(
                target=stream,
                args=(number, shared.lane(), [chance.random() * 0.002 for _ in range(12)]),
                daemon=True,
            )
            for number in range(streams)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
        assert wrong == []
        assert shared.requests == streams * 12
        assert shared.calls == len(engine.given)
        assert shared.fill == pytest.approx(shared.requests / shared.calls)
        assert 1 <= shared.fill <= min(batch, streams)


def test_a_lane_is_a_back_end_of_one_frame_with_the_engines_name() -> None:
    engine = Rows(batch=4)
    with SharedEngine(engine) as shared:
        lane = shared.lane()
        assert isinstance(lane, Backend)
        assert (lane.name, lane.fingerprint, lane.spec) == ("rows", "f" * 64, SPEC)
        assert (lane.info.precision, lane.info.trained, lane.info.batch) == ("int8", False, 1)
        assert shared.fill is None
    assert not engine.closed  # it belongs to who made it


def test_waiting_requests_share_a_batch_and_the_rest_is_padded() -> None:
    gate = Gate()
    engine = Rows(batch=4, work=gate)
    with SharedEngine(engine) as shared:
        first = Asking(shared.lane(), 1)
        assert gate.entered.wait(LONG_S)
        later = [Asking(shared.lane(), number) for number in (2, 3, 4)]
        until(lambda: len(shared._waiting) == 3)
        gate.opened.set()
        for number, asked in enumerate([first, *later], start=1):
            assert asked.over().answer is not None
            assert asked.answer is not None
            assert (asked.answer == number).all()
        assert engine.given[0] == [1, 1, 1, 1]
        assert set(engine.given[1]) == {2, 3, 4}
        assert (shared.calls, shared.requests, shared.fill) == (2, 4, 2.0)


def test_first_come_first_served() -> None:
    gate = Gate()
    engine = Rows(work=gate)
    with SharedEngine(engine) as shared:
        asked = []
        for number in range(6):
            asked.append(Asking(shared.lane(), number))
            until(lambda: gate.entered.is_set() and len(shared._waiting) == len(asked) - 1)
        gate.opened.set()
        for each in asked:
            each.over()
        assert [given[0] for given in engine.given] == list(range(6))


def test_a_stream_that_asks_without_pause_does_not_starve_another() -> None:
    engine = Rows(work=lambda call: time.sleep(0.002))
    counts = [0, 0, 0]
    ended = threading.Event()

    def greedy(number: int, lane: Backend) -> None:
        while not ended.is_set():
            lane.infer(tensor(number))
            counts[number] += 1

    with SharedEngine(engine) as shared:
        threads = [
            threading.Thread(target=greedy, args=(number, shared.lane()), daemon=True) for number in range(3)
        ]
        for thread in threads:
            thread.start()
        until(lambda: sum(counts) >= 90)
        ended.set()
        for thread in threads:
            thread.join(LONG_S)
    assert max(counts) - min(counts) <= 0.2 * max(counts) + 3


@pytest.mark.parametrize("raised", [EngineError("it broke; load it again"), ValueError("odd")])
def test_an_error_of_the_engine_is_raised_in_the_streams_concerned(raised: Exception) -> None:
    gate = Gate()

    def work(call: int) -> None:
        gate(call)
        if call == 1:
            raise raised

    with SharedEngine(Rows(batch=2, work=work)) as shared:
        first = Asking(shared.lane(), 1)
        assert gate.entered.wait(LONG_S)
        later = [Asking(shared.lane(), number) for number in (2, 3)]
        until(lambda: len(shared._waiting) == 2)
        gate.opened.set()
        assert first.over().answer is not None
        for asked in later:
            error = asked.over().error
            assert isinstance(error, EngineError)
            assert str(raised) in str(error)
            assert error.__cause__ is raised
        assert Asking(shared.lane(), 4).over().answer is not None  # and it goes on


def test_an_answer_of_the_wrong_shape_is_an_error_and_not_another_streams_row() -> None:
    class Lying(Rows):
        def infer(self, tensor: Tensor) -> np.ndarray:
            return super().infer(tensor)[:1]

    with SharedEngine(Lying(batch=3)) as shared, pytest.raises(EngineError, match="gave maps"):
        shared.lane().infer(tensor(1))


@pytest.mark.parametrize("wrong", [np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 1, 16, 24))])
def test_a_wrong_tensor_affects_only_its_sender(wrong: np.ndarray) -> None:
    engine = Rows(batch=2)
    with SharedEngine(engine) as shared:
        with pytest.raises(EngineError, match="takes a tensor"):
            shared.lane().infer(wrong)
        assert (shared.lane().infer(tensor(3)) == 3).all()
    assert engine.given == [[3, 3]]


def test_closing_a_lane_wakes_its_waiter_and_leaves_the_others_alone() -> None:
    gate = Gate()
    with SharedEngine(Rows(work=gate)) as shared:
        lanes: list[Lane] = [shared.lane() for _ in range(3)]
        served = Asking(lanes[0], 1)
        assert gate.entered.wait(LONG_S)
        waiting, other = Asking(lanes[1], 2), Asking(lanes[2], 3)
        until(lambda: len(shared._waiting) == 2)
        for lane in lanes[:2]:  # one that is being served, and one that waits
            lane.close()
            lane.close()
        assert isinstance(served.over().error, EngineError)
        assert isinstance(waiting.over().error, EngineError)
        gate.opened.set()
        assert other.over().answer is not None
        with pytest.raises(EngineError, match="closed"):
            lanes[0].infer(tensor(1))


def test_closing_the_engine_wakes_all_even_if_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.backends.shared.CLOSE_S", 0.01)
    gate = Gate()
    shared = SharedEngine(Rows(work=gate))
    served = Asking(shared.lane(), 1)
    assert gate.entered.wait(LONG_S)
    waiting = Asking(shared.lane(), 2)
    until(lambda: len(shared._waiting) == 1)
    shared.close()
    shared.close()
    for asked in (served, waiting):
        assert isinstance(asked.over().error, EngineError)
    with pytest.raises(EngineError, match="closed"):
        shared.lane().infer(tensor(1))
    gate.opened.set()
    for thread in shared._threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_as_many_threads_call_as_the_engine_has_lanes() -> None:
    together = threading.Barrier(3)
    engine = Rows(lanes=3, work=lambda call: together.wait(LONG_S))
    with SharedEngine(engine) as shared:
        asked = [Asking(shared.lane(), number) for number in range(3)]
        assert all(each.over().answer is not None for each in asked)


def test_an_engine_of_several_frames_gives_each_stream_what_it_gives_alone(tmp_path: Path) -> None:
    spec = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
    single, batched = (
        OpenVINOBackend(small_model(spec, batch=batch), info_of(spec, batch=batch), threads=1)
        for batch in (1, 4)
    )
    frames = np.random.default_rng(1).normal(0, 1, (3, 1, 1, 32, 48)).astype(np.float32)
    with SharedEngine(batched) as shared:
        for frame in frames:
            np.testing.assert_allclose(shared.lane().infer(frame), single.infer(frame), atol=1e-6)
    single.close()
    batched.close()


def test_a_fake_engine_shared_answers_as_it_does_alone() -> None:
    fake = FakeBackend(SPEC)
    with SharedEngine(fake) as shared:
        assert (shared.lane().infer(tensor(0)) == fake.infer(tensor(0))).all()


def test_a_turn_comes_so_early_that_the_request_is_there_when_the_engine_is_free() -> None:
    forecast = Forecast(2)
    assert forecast.free(0.0)[0] == 2
    for call in range(RECENT):
        forecast.began(1, call)
        assert forecast.free(call)[0] == 2, "too few calls are known: the engine must not wait"
        forecast.ended(1, call + 0.040)
        forecast.asked(0.003)
    forecast.began(1, 100.0)
    forecast.began(2, 100.010)
    assert forecast.free(100.020) == (0, pytest.approx(0.017))
    assert forecast.free(100.0371) == (1, pytest.approx(0.0099))
    assert forecast.free(100.0471)[0] == 2
    forecast.ended(1, 100.041)
    assert forecast.free(100.042)[0] == 1


def test_one_stretched_call_or_turn_changes_no_forecast() -> None:
    forecast = Forecast(1)
    for call in range(RECENT):
        forecast.began(1, call)
        forecast.ended(1, call + (0.001 if call == 3 else 0.040))
        forecast.asked(0.5 if call == 3 else 0.003)
    forecast.began(1, 50.0)
    assert forecast.free(50.0) == (0, pytest.approx(0.037))


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
        assert turning[0].called.wait(LONG_S)
        until(lambda: len(shared._waiting) == 1 and len(shared._turns) == 2)
        assert [each.called.is_set() for each in turning] == [True, False, False]
        gate.opened.set()
        assert all(each.over().answer is not None for each in [served, *turning])
        assert [given[0] for given in engine.given] == [0, 1, 2, 3]


def test_with_turns_no_stream_gets_anothers_answer_and_none_starves() -> None:
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


def test_streams_of_one_engine_compute_one_at_a_time_and_infer_meanwhile() -> None:
    with SharedEngine(FakeBackend(SPEC)) as shared, SharedEngine(FakeBackend(SPEC)) as other:
        one, two, apart = (Segmenter(engine.lane()) for engine in (shared, shared, other))
        frame = Frame(np.zeros((SPEC.height, SPEC.width), np.uint8), 0, 0)
        prepared, done = two.prepare(frame), threading.Event()

        def work() -> None:
            two.finish(prepared, two.infer(prepared))
            two.prepare(frame)
            done.set()

        with one.alone:
            planes = two.infer(prepared)
            threading.Thread(target=work, daemon=True).start()
            assert planes.shape == (1, SPEC.height, SPEC.width)
            assert apart.segment(frame).mask.shape == frame.shape
            assert not done.wait(0.05)
        assert done.wait(LONG_S)


def test_a_stream_that_fails_lets_the_others_compute() -> None:
    with SharedEngine(FakeBackend(SPEC)) as shared:
        one, two = (Segmenter(shared.lane()) for _ in range(2))
        frame = Frame(np.zeros((SPEC.height, SPEC.width), np.uint8), 0, 0)
        with pytest.raises(ValueError, match="zip"):
            one.finish(one.prepare(frame), np.zeros((2, 3, 5), np.float32))
        assert two.segment(frame).mask.shape == frame.shape


def test_an_unused_turn_goes_to_another_lane(monkeypatch: pytest.MonkeyPatch) -> None:
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
