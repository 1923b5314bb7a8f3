"""Batches arrive in order and once, even if the consumer leaves early."""

import threading

import pytest
import torch

from streamseg.training.data import AHEAD, load_batches, take
from tests.training.runs import noise


@pytest.fixture(scope="module")
def cache():
    return noise(6)


def plan(*batches):
    return [torch.tensor(rows, dtype=torch.int64) for rows in batches]


def loaders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_batch_holds_the_rows_asked_for(cache):
    batch = take(cache, torch.tensor([4, 1, 4]))
    assert batch.rows.tolist() == [4, 1, 4]
    assert batch.vessel_known.tolist() == [True, False, True]
    assert (batch.images.shape, batch.labels.shape) == ((3, 1, 48, 64), (3, 2, 48, 64))
    assert batch.images.dtype == batch.labels.dtype == torch.float32
    assert torch.equal(batch.images[1] * 255, cache.images[1].float())
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    batch.images.zero_()
    assert cache.images[4].any()
    assert cache.names == tuple("012345")


@pytest.mark.parametrize("batches", [[], [[3]], [[n % 6, (n + 1) % 6] for n in range(3 * AHEAD)]])
def test_batches_come_in_order_and_equal_those_taken_singly(cache, batches):
    loaded = list(load_batches(cache, plan(*batches), "cpu"))
    assert [batch.rows.tolist() for batch in loaded] == batches
    for batch in loaded:
        single = take(cache, batch.rows)
        assert torch.equal(batch.images, single.images)
        assert torch.equal(batch.labels, single.labels)
        assert torch.equal(batch.vessel_known, single.vessel_known)
    assert not loaders()


def test_an_iterator_that_is_left_stops_its_thread(cache):
    for batch in load_batches(cache, plan(*[[0]] * 1000), "cpu"):
        assert batch.rows.tolist() == [0]
        break
    assert not loaders()
    load_batches(cache, plan([0]), "cpu")  # never begun
    assert not loaders()


def test_an_error_of_the_thread_reaches_the_consumer(cache):
    batches = load_batches(cache, plan([0], [99], [1]), "cpu")
    assert next(batches).rows.tolist() == [0]
    with pytest.raises(IndexError, match="99"):
        next(batches)
    assert not loaders()


def test_not_more_than_a_few_batches_are_prepared_ahead(cache):
    given = []

    class Plan(list):
        def __iter__(self):
            for rows in super().__iter__():
                given.append(rows)
                yield rows

    batches = load_batches(cache, Plan(plan(*[[0]] * 50)), "cpu")
    next(batches)
    assert len(given) == AHEAD + 1
    batches.close()


@pytest.mark.gpu
def test_a_gpu_gets_the_same_numbers(cache):
    for device in ("cuda", "cuda:0"):
        (batch,) = load_batches(cache, plan([2, 5]), device)
        single = take(cache, torch.tensor([2, 5]))
        assert batch.images.device.type == batch.rows.device.type == "cuda"
        assert torch.allclose(batch.images.cpu(), single.images, atol=1e-7)
        assert torch.equal(batch.labels.cpu(), single.labels)
