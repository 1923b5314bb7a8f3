"""The accuracy of engines on labelled images, and their agreement with FP32."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from streamseg.core.errors import UsageError
from streamseg.core.types import Backend, Frame, Mask, Planes
from streamseg.datasets import RunSplit, Sample, frame_hash, open_dataset, split_last
from streamseg.datasets.phantoms import phantom_samples
from streamseg.evaluation.overlap import Confusion
from streamseg.export.gate import SingleFrameAdapter
from streamseg.phantom.seeds import BENCHMARK
from streamseg.segmentation.segmenter import Segmenter


@dataclass(frozen=True, slots=True, repr=False)
class LabelledImages:
    """Images with masks of the nerve."""

    samples: Sequence[Sample]
    words: str
    """Their description: "24 phantoms"."""


def labelled_images(count: int, data: Path | None = None, last: float | None = None) -> LabelledImages:
    """``count`` phantoms; with ``data``, the images of that data set, or their ``last`` share (0..1) in the
    order in which training splits them. Raises UsageError and DataError."""
    if data is None:
        if last is not None:
            raise UsageError(f"--last {last:g} is a share of labelled images; give them by --data DIR")
        return LabelledImages(list(phantom_samples(count, seed=BENCHMARK.take(count))), f"{count} phantoms")
    if last is not None and not 0 < last < 1:
        raise UsageError(f"--last takes a share between 0 and 1, received {last:g}; 0.2 is the last fifth")
    found = open_dataset(data)
    name = data.resolve().name
    if last is None:
        return LabelledImages(found, f"{len(found)} images of {name}")
    held_back = split_last(found, last)[1]
    return LabelledImages(held_back, f"{len(held_back)} images of {name}, its last {last:.0%}")


@dataclass(frozen=True, slots=True, repr=False)
class Answers:
    """The answers of one engine to all images."""

    masks: list[Mask]
    """Of the nerve."""
    probabilities: list[Planes]
    """Of all structures, at the net's resolution."""
    dice: list[float]
    """With each image's label."""

    @property
    def digest(self) -> str:
        """sha256 of all probabilities: equal if two engines answer the same bit for bit."""
        found = hashlib.sha256()
        for probability in self.probabilities:
            found.update(probability.tobytes())
        return found.hexdigest()

    @property
    def constant(self) -> bool:
        """Whether the answer to several images is the same: the engine ignores its input."""
        first, *others = self.probabilities
        return bool(others) and all(np.array_equal(first, other) for other in others)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How good the answers of an engine are."""

    dice: float | None
    """Mean over the images, with their labels; None for random weights, and for images that they were
    trained on."""
    mask_agreement: float | None
    """Mean Dice with FP32's masks; None for random weights, whose masks are noise."""
    probability_difference: float | None
    """The largest mean absolute difference to FP32's probabilities in any image."""
    digest: str
    constant: bool
    """Whether the answer to several images is the same: the engine ignores its input."""


def answers_of(engine: Backend, samples: Iterable[Sample]) -> Answers:
    """The answers of an engine, also to images unlike the training data. Raises EngineError and DataError."""
    segmenter = Segmenter(SingleFrameAdapter(engine), withhold=False)
    found = Answers([], [], [])
    for index, sample in enumerate(samples):
        prepared = segmenter.prepare(Frame(sample.image, index, time.monotonic_ns()))
        planes = segmenter.infer(prepared)
        segmentation = segmenter.finish(prepared, planes)
        found.masks.append(segmentation.mask)
        found.probabilities.append(planes)
        found.dice.append(Confusion.count(segmentation.mask, sample.nerve).dice)
    return found


def trained_on(weights: Path, samples: Iterable[Sample]) -> int:
    """How many of the images some weights (a file or a run folder) were trained on, as far as they say."""
    split = RunSplit.read(weights)
    return 0 if split is None else sum(frame_hash(sample.image) in split.train for sample in samples)


def judge(found: Answers, reference: Answers | None, *, trained: bool) -> Accuracy:
    """Compare an engine's answers with FP32's on the images that both saw, if there are any."""
    agreement = difference = None
    if reference is not None:
        pairs = zip(found.probabilities, reference.probabilities, strict=False)
        difference = max(float(np.abs(one - two).mean()) for one, two in pairs)
        masks = zip(found.masks, reference.masks, strict=False)
        agreement = fmean(Confusion.count(one, two).dice for one, two in masks)
    return Accuracy(
        dice=fmean(found.dice) if trained else None,
        mask_agreement=agreement if trained else None,
        probability_difference=difference,
        digest=found.digest,
        constant=found.constant,
    )
