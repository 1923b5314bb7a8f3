"""Small runs for the tests of training: a few drawn images, a net of small inputs."""

from __future__ import annotations

import numpy as np
import torch

from streamseg.datasets.reader import Sample
from streamseg.datasets.split import Fold
from streamseg.training.config import TrainConfig, recipe
from streamseg.training.data import Cache, cache_samples, phantom_samples

CONFIG: TrainConfig = recipe(
    "best",
    height=32,
    width=48,
    epochs=2,
    batch=2,
    phantom_batch=2,
    learning_rate=1e-3,
    average=0.9,
    strength=1.0,
    seed=3,
)
FOLD = Fold(train=(0, 1, 2, 3, 4), validation=(5, 6))


def squares(count: int = 7) -> Cache:
    """Noise with one bright rectangle each, which is the nerve; vessels are known in every other image."""
    generator = np.random.default_rng(0)
    samples = []
    for number in range(count):
        image = generator.integers(0, 60, (64, 96), dtype=np.uint8)
        nerve = np.zeros((64, 96), bool)
        nerve[20:40, 8 * number : 8 * number + 30] = True
        image[nerve] += 150
        samples.append(Sample(str(number), image, nerve, np.zeros_like(nerve) if number % 2 else None))
    return cache_samples(samples, CONFIG.spec)


def phantoms() -> Cache:
    return cache_samples(phantom_samples(3, seed=5), CONFIG.spec)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
