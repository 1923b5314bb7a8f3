"""The queue between two threads: order, bound, and either side's end."""

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.pipeline.ordered_queue import DEPTH, OrderedQueue


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=50), st.lists(st.sampled_from([0, 0.0002]), max_size=50))
def test_all_items_arrive_once_and_in_order(items: list[int], delays: list[float]) -> None:
    queue: OrderedQueue[int] = OrderedQueue()

    def write() -> None:
        for position, item in enumerate(items):
            assert queue.put(item, position)
        queue.finish()

    writer = threading.Thread(target=write)
    writer.start()
    received = []
    pauses = iter(delays)
    while (item := queue.get()) is not None:
        received.append(item)
        time.sleep(next(pauses, 0))
    writer.join(5)
    assert received == items
    assert not writer.is_alive()


def test_a_full_queue_holds_the_writer_until_aborted() -> None:
    queue: OrderedQueue[int] = OrderedQueue()
    for item in range(DEPTH):
        assert queue.put(item, item)
    answers: list[bool] = []
    writer = threading.Thread(target=lambda: answers.append(queue.put(99, DEPTH)))
    writer.start()
    writer.join(0.05)
    assert writer.is_alive()
    queue.abort()
    writer.join(5)
    assert answers == [False]
    assert queue.get() is None
    assert not queue.put(1, DEPTH + 1)


def test_an_empty_queue_holds_the_reader_until_the_end() -> None:
    queue: OrderedQueue[int] = OrderedQueue()
    answers: list[int | None] = []
    reader = threading.Thread(target=lambda: answers.append(queue.get()))
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()
    queue.finish()
    reader.join(5)
    assert answers == [None]


def test_items_put_before_the_end_are_delivered() -> None:
    queue: OrderedQueue[int] = OrderedQueue()
    queue.put(1, 0)
    queue.finish()
    assert queue.get() == 1
    assert queue.get() is None


def test_several_writers_keep_the_order() -> None:
    queue: OrderedQueue[int] = OrderedQueue(writers=3)

    def write(first: int) -> None:
        for position in range(first, 60, 3):
            time.sleep(0.001 * ((position * 7) % 3))
            assert queue.put(position, position)
        queue.finish()

    writers = [threading.Thread(target=write, args=(first,)) for first in range(3)]
    for writer in writers:
        writer.start()
    received = []
    while (item := queue.get()) is not None:
        received.append(item)
    for writer in writers:
        writer.join(5)
    assert received == list(range(60))


def test_a_writer_ahead_of_another_goes_on_as_far_as_the_depth_allows() -> None:
    queue: OrderedQueue[int] = OrderedQueue(writers=2, depth=4)
    answers: list[bool] = []

    def write() -> None:
        answers.extend(queue.put(position, position) for position in range(1, 5))

    ahead = threading.Thread(target=write)
    ahead.start()
    ahead.join(0.05)
    assert answers == [True] * 3
    assert ahead.is_alive()
    assert queue.put(0, 0)
    assert queue.get() == 0
    ahead.join(5)
    assert answers == [True] * 4
    assert [queue.get() for _ in range(4)] == [1, 2, 3, 4]


def test_what_was_put_after_the_end_is_not_delivered() -> None:
    queue: OrderedQueue[int] = OrderedQueue(writers=2, depth=4)
    assert queue.put(2, 2)
    queue.finish(1)
    assert queue.put(0, 0)
    assert queue.get() == 0
    assert queue.get() is None


def test_a_writer_that_finishes_at_its_position_lets_earlier_ones_pass_and_refuses_later_ones() -> None:
    queue: OrderedQueue[int] = OrderedQueue(writers=3)
    answers: list[bool] = []
    later = threading.Thread(target=lambda: answers.append(queue.put(2, 2)))
    later.start()
    later.join(0.05)
    assert later.is_alive()
    queue.finish(1)
    later.join(5)
    assert answers == [False]
    assert queue.put(0, 0)
    assert queue.get() == 0
    assert queue.get() is None
