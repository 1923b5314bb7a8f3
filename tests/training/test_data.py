"""What training sees is what inference sees, and batches arrive in order, once, whoever leaves early."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from streamseg.core.errors import DataError
from streamseg.core.types import InputSpec
from streamseg.datasets import find_near_duplicates, open_dataset
from streamseg.datasets.near_duplicates import reduced
from streamseg.datasets.phantoms import phantom_samples
from streamseg.datasets.reader import Sample
from streamseg.phantom import render_still
from streamseg.segmentation.preprocess import to_tensor
from streamseg.training.data import AHEAD, cache_samples, load_batches, near_duplicates_of

SPEC = InputSpec(48, 64, mean=0.25, std=0.25, threshold=0.5)


def sample(known=True, name="a", seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (96, 100), dtype=np.uint8)
    nerve = np.zeros((96, 100), bool)
    nerve[20:60, 30:70] = True
    return Sample(name, image, nerve, ~nerve if known else None)


@pytest.fixture(scope="module")
def cache():
    return cache_samples([sample(n % 2 == 0, str(n), n) for n in range(6)], SPEC)


def plan(*batches):
    return [torch.tensor(rows, dtype=torch.int64) for rows in batches]


def loaders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_training_sees_exactly_what_inference_sees():
    cache = cache_samples([sample()], SPEC)
    images = cache.take(torch.tensor([0])).images
    np.testing.assert_allclose((images.numpy() - 0.25) / 0.25, to_tensor(sample().image, SPEC), atol=1e-6)


def test_labels_are_letterboxed_with_the_picture():
    cache = cache_samples([sample(), sample(known=False)], SPEC)
    assert cache.labels.dtype == torch.uint8
    nerve, vessel = cache.labels[0]
    left = (64 - 50) // 2
    assert nerve.sum() == 20 * 20
    assert nerve[10:30, left + 15 : left + 35].all()
    assert not (nerve & vessel).any()
    assert vessel[:, :left].sum() == 0
    assert cache.vessel_known.tolist() == [True, False]
    assert not cache.labels[1, 1].any()


def test_a_batch_holds_the_rows_asked_for(cache):
    batch = cache.take(torch.tensor([4, 1, 4]))
    assert batch.rows.tolist() == [4, 1, 4]
    assert batch.vessel_known.tolist() == [True, False, True]
    assert (batch.images.shape, batch.labels.shape) == ((3, 1, 48, 64), (3, 2, 48, 64))
    assert batch.images.dtype == batch.labels.dtype == torch.float32
    assert torch.equal(batch.images[1] * 255, cache.images[1].float())
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    batch.images.zero_()
    assert cache.images[4].any()
    assert cache.names == tuple("012345")


def test_the_fingerprint_tells_contents_apart(cache):
    again = cache_samples([sample(n % 2 == 0, str(n), n) for n in range(6)], SPEC)
    assert again.fingerprint == cache.fingerprint
    assert len(cache.fingerprint) == 64
    changed = ([sample()], [sample(seed=1)], [sample(known=False)], [sample(name="b")], [sample()] * 2)
    assert len({cache_samples(samples, SPEC).fingerprint for samples in changed}) == len(changed)


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no samples"):
        cache_samples([], SPEC)


@pytest.mark.parametrize("batches", [[], [[3]], [[n % 6, (n + 1) % 6] for n in range(3 * AHEAD)]])
def test_batches_come_in_order_and_equal_those_taken_singly(cache, batches):
    loaded = list(load_batches(cache, plan(*batches), "cpu"))
    assert [batch.rows.tolist() for batch in loaded] == batches
    for batch in loaded:
        single = cache.take(batch.rows)
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
        single = cache.take(torch.tensor([2, 5]))
        assert batch.images.device.type == batch.rows.device.type == "cuda"
        assert torch.allclose(batch.images.cpu(), single.images, atol=1e-7)
        assert torch.equal(batch.labels.cpu(), single.labels)


def test_twins_are_found_whatever_the_nets_size(tmp_path):
    """And as they are by the command that checks a data set."""
    stills = [render_still(seed) for seed in (1, 2, 3)]
    shown = [(stills[n].image, stills[n].nerve * np.uint8(255)) for n in (0, 1, 2, 1)]
    for number, pictures in enumerate(shown):
        for folder, pixels in zip(("images", "masks"), pictures, strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    data = open_dataset(tmp_path)
    images, masks = zip(*(reduced(s.image, s.nerve) for s in data), strict=True)
    assert near_duplicates_of(data) == find_near_duplicates(np.array(images), np.array(masks))
    assert near_duplicates_of(data, folder=tmp_path / "kept").groups == ((1, 3),)


def test_phantoms_come_with_and_without_nerve():
    samples = list(phantom_samples(12, seed=0))
    assert 0 < sum(s.nerve.any() for s in samples) < 12
    assert [s.name for s in samples] == [f"phantom-{n}" for n in range(12)]
