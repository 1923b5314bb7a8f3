"""Small runs for the tests of training: a few drawn images, a net of small inputs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from streamseg.core.types import InputSpec
from streamseg.datasets.phantoms import phantom_samples
from streamseg.datasets.reader import Sample
from streamseg.datasets.split import Fold
from streamseg.nets import build_net
from streamseg.training import trainer
from streamseg.training.cache import Cache, cache_samples
from streamseg.training.config import TrainConfig, recipe
from streamseg.training.data import TrainingData
from streamseg.training.devices import make_fabric
from streamseg.training.run_folder import TrainingCallbacks

CONFIG: TrainConfig = recipe(
    "best",
    height=32,
    width=48,
    epochs=2,
    batch=2,
    phantom_batch=2,
    absent_batch=2,
    learning_rate=1e-3,
    average=0.9,
    strength=1.0,
    seed=3,
)
CAREFUL = {"frozen_statistics": True, "learning_rate": 5e-5}
"""Changes to :data:`CONFIG` with which rounding stays small."""
SPEC = InputSpec(48, 64, mean=0.25, std=0.25, threshold=0.5)
"""Input of :func:`noise`."""
NARROW = partial(build_net, width=1 / 8)
FOLD = Fold(train=(0, 1, 2, 3, 4), validation=(5, 6))


@contextmanager
def narrow_nets() -> Iterator[None]:
    """Within the block, runs train nets an eighth as wide: what training does does not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "build_net", NARROW)
        yield


def sample(known: bool = True, name: str = "a", seed: int = 0) -> Sample:
    """Noise with a square nerve; the rest is vessel if ``known``."""
    image = np.random.default_rng(seed).integers(0, 256, (96, 100), dtype=np.uint8)
    nerve = np.zeros((96, 100), bool)
    nerve[20:60, 30:70] = True
    return Sample(name, image, nerve, ~nerve if known else None)


def noise(count: int) -> Cache:
    """Samples by number; vessels are known in every other one."""
    return cache_samples([sample(n % 2 == 0, str(n), n) for n in range(count)], SPEC)


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


def absent(count: int = 3) -> Cache:
    """Noise without nerve, vessels unknown."""
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 60, (64, 96), dtype=np.uint8) for _ in range(count)]
    return cache_samples(
        [Sample(str(number), image, image > 255, None) for number, image in enumerate(images)], CONFIG.spec
    )


def training_data() -> TrainingData:
    """The squares with the phantoms and the images without nerve that are mixed in."""
    return TrainingData(squares(), FOLD, phantoms(), absent())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def train_alone(folder: Path, held: Path | None = None) -> None:
    """A whole run on one thread that saves after each step.

    With ``held`` it does not get through: after the last step it writes that file and waits to be killed.
    """
    torch.set_num_threads(1)
    trainer.SAVE_SECONDS, trainer.SAVE_SHARE, trainer.LOSS_STEPS = 0.0, 1e9, 1

    def hold(step: int, steps: int, _: float) -> None:
        if held is not None and step == steps:
            held.touch()
            time.sleep(600)

    with narrow_nets():
        trainer.fit(CONFIG, training_data(), folder, callbacks=TrainingCallbacks(on_step=hold))


def train_together(folder: Path) -> None:
    """One of the two processes of a run, as the environment says."""
    torch.set_num_threads(1)
    fabric = make_fabric("cpu")
    assert fabric.world_size == 2
    with narrow_nets():
        trainer.fit(replace(CONFIG, **CAREFUL), training_data(), folder, fabric=fabric)
    torch.distributed.destroy_process_group()
