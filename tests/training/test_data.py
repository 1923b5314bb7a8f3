"""Batches arrive in order and once; an image's augmentation does not depend on its batch."""

import threading

import pytest
import torch

from streamseg.training.augment import augment, sample_seed
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


def batch(n=16):
    images = torch.full((n, 1, 48, 64), 0.1)
    labels = torch.zeros(n, 2, 48, 64)
    images[:, :, 14:34, 22:42] = 0.9
    labels[:, 0, 14:34, 22:42] = 1
    return images, labels


def test_strength_0_leaves_the_batch_alone():
    images, labels = batch()
    changed = augment(images, labels, range(16), strength=0)
    assert torch.equal(changed[0], images)
    assert torch.equal(changed[1], labels)


def test_the_same_seed_gives_the_same_batch_and_another_seed_another():
    images, labels = batch()
    one, same, other = (augment(images, labels, range(s, s + 16))[0] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_labels_move_with_the_image():
    images, labels = augment(*batch(), range(30, 46), strength=0.7)
    for image, label in zip(images[:, 0], labels[:, 0], strict=True):
        inside = label > 0
        assert image[inside].mean() > 2 * image[~inside].mean()


def test_strips_that_are_blackened_have_no_labels():
    """Nerve in a black strip cannot be found, and was asked for."""
    images = torch.full((64, 1, 32, 48), 0.6)
    labels = torch.ones(64, 2, 32, 48)
    blackened, left = augment(images, labels, range(64), strength=2.0)
    black = (blackened == 0).expand_as(left)
    assert 0.02 < float(black.float().mean()) < 0.6
    assert not left[black].any()
    assert left[~black].float().mean() > 0.5


def test_ranges_hold():
    images, labels = augment(*batch(), range(40, 56), strength=1.5)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(labels.unique().tolist()) == {0, 1}
    assert not labels[:, 1].any()


def test_augmentation_of_an_image_does_not_depend_on_its_batch():
    images, labels = batch(4)
    together = augment(images, labels, [5, 6, 7, 8])
    for number, seed in enumerate((5, 6, 7, 8)):
        alone = augment(images[number : number + 1], labels[number : number + 1], [seed])
        assert torch.allclose(alone[0][0], together[0][number], atol=1e-6)
        assert torch.equal(alone[1][0], together[1][number])


def test_seeds_depend_on_every_part():
    seeds = {sample_seed(a, "image", b, c) for a in range(3) for b in range(3) for c in range(3)}
    assert len(seeds) == 27
    assert all(0 <= seed < 2**63 for seed in seeds)
