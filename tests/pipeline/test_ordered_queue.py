"""The queue between two threads: order, bound, and either side's end."""

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.pipeline.ordered_queue import DEPTH, OrderedQueue


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=50), st.lists(st.sampled_from([0, 0.0002]), max_size=50))
def test_all_items_arrive_once_and_in_order(items: list[int], delays: list[float]) -> None:
    pipe: OrderedQueue[int] = OrderedQueue()

    def write() -> None:
        for turn, item in enumerate(items):
            assert pipe.put(item, turn)
        pipe.end()

    writer = threading.Thread(target=write)
    writer.start()
    received = []
    pauses = iter(delays)
    while (item := pipe.get()) is not None:
        received.append(item)
        time.sleep(next(pauses, 0))
    writer.join(5)
    assert received == items
    assert not writer.is_alive()


def test_a_full_pipe_holds_the_writer_until_cut() -> None:
    pipe: OrderedQueue[int] = OrderedQueue()
    for item in range(DEPTH):
        assert pipe.put(item, item)
    answers: list[bool] = []
    writer = threading.Thread(target=lambda: answers.append(pipe.put(99, DEPTH)))
    writer.start()
    writer.join(0.05)
    assert writer.is_alive()
    pipe.cut()
    writer.join(5)
    assert answers == [False]
    assert pipe.get() is None
    assert not pipe.put(1, DEPTH + 1)


def test_an_empty_pipe_holds_the_reader_until_the_end() -> None:
    pipe: OrderedQueue[int] = OrderedQueue()
    answers: list[int | None] = []
    reader = threading.Thread(target=lambda: answers.append(pipe.get()))
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()
    pipe.end()
    reader.join(5)
    assert answers == [None]


def test_what_was_put_before_the_end_is_delivered() -> None:
    pipe: OrderedQueue[int] = OrderedQueue()
    pipe.put(1, 0)
    pipe.end()
    assert pipe.get() == 1
    assert pipe.get() is None


def test_several_writers_keep_turns() -> None:
    pipe: OrderedQueue[int] = OrderedQueue(writers=3)

    def write(first: int) -> None:
        for turn in range(first, 60, 3):
            time.sleep(0.001 * ((turn * 7) % 3))
            assert pipe.put(turn, turn)
        pipe.end()

    writers = [threading.Thread(target=write, args=(first,)) for first in range(3)]
    for writer in writers:
        writer.start()
    received = []
    while (item := pipe.get()) is not None:
        received.append(item)
    for writer in writers:
        writer.join(5)
    assert received == list(range(60))


def test_a_writer_that_ends_at_its_turn_lets_earlier_ones_pass_and_refuses_later_ones() -> None:
    pipe: OrderedQueue[int] = OrderedQueue(writers=3)
    answers: list[bool] = []
    later = threading.Thread(target=lambda: answers.append(pipe.put(2, 2)))
    later.start()
    later.join(0.05)
    assert later.is_alive()
    pipe.end(1)
    later.join(5)
    assert answers == [False]
    assert pipe.put(0, 0)
    assert pipe.get() == 0
    assert pipe.get() is None
