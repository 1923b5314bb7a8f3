import numpy as np
import torch

from streamseg.datasets.reader import Sample
from streamseg.preprocess import to_tensor
from streamseg.training.data import cache_samples, phantom_samples
from streamseg.types import InputSpec

SPEC = InputSpec(48, 64, mean=0.25, std=0.25, threshold=0.5)


def sample(known=True):
    image = np.random.default_rng(0).integers(0, 256, (96, 100), dtype=np.uint8)
    nerve = np.zeros((96, 100), bool)
    nerve[20:60, 30:70] = True
    return Sample("a", image, nerve, ~nerve if known else None)


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


def test_phantoms_come_with_and_without_nerve():
    samples = list(phantom_samples(12, seed=0))
    assert 0 < sum(s.nerve.any() for s in samples) < 12
    assert [s.name for s in samples] == [f"phantom-{n}" for n in range(12)]
