"""Engines are judged on images that nothing was trained on, against labels and against FP32."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.nets.accuracy import answers_of, judge, labelled_images, trained_on
from streamseg.core.errors import DataError, UsageError
from streamseg.core.types import InputSpec
from streamseg.datasets import RunSplit, frame_hash
from streamseg.phantom.seeds import BENCHMARK

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)


def test_phantoms_are_unseen_and_labelled() -> None:
    found = labelled_images(3)
    assert found.words == "3 phantoms"
    assert [sample.name for sample in found.samples] == [f"phantom-{BENCHMARK.first + n}" for n in range(3)]
    assert found.samples[0].nerve.shape == found.samples[0].image.shape


def test_labelled_images_or_their_last_share(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "scans" / folder).mkdir(parents=True)
    for number in range(5):
        picture = np.full((32, 48), 40 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f"scans/images/{number}.png"), picture)
        cv2.imwrite(str(tmp_path / f"scans/masks/{number}.png"), np.zeros_like(picture))
    whole = labelled_images(3, tmp_path / "scans")
    assert (whole.words, len(whole.samples)) == ("5 images of scans", 5)
    last = labelled_images(3, tmp_path / "scans", 0.2)
    assert last.words == "1 images of scans, its last 20%"
    assert [sample.name for sample in last.samples] == ["4"]
    with pytest.raises(UsageError, match="between 0 and 1, received 2"):
        labelled_images(3, tmp_path / "scans", 2)
    with pytest.raises(UsageError, match="give them by --data"):
        labelled_images(3, None, 0.2)
    with pytest.raises((UsageError, DataError)):
        labelled_images(3, tmp_path / "none")


def test_images_that_weights_were_trained_on_are_counted(tmp_path: Path) -> None:
    samples, weights = labelled_images(3).samples, tmp_path / "lite_unet.safetensors"
    assert trained_on(weights, samples) == 0
    frames = [frame_hash(sample.image) for sample in samples]
    RunSplit(frozenset(frames[:2]), frozenset(frames[2:])).write(weights)
    assert trained_on(weights, samples) == 2
    assert trained_on(tmp_path / "improved_unet.safetensors", samples) == 0
    RunSplit(frozenset(frames), frozenset()).write(tmp_path)
    assert trained_on(tmp_path, samples) == 3


def test_answers_are_judged_by_labels_and_by_fp32() -> None:
    samples = labelled_images(4).samples
    nothing, much = (answers_of(FakeBackend(SPEC, value), samples) for value in (0.0, 0.75))
    found = judge(nothing, much, trained=True)
    empty = [not sample.nerve.any() for sample in samples]
    assert found.dice == pytest.approx(sum(empty) / 4)  # both empty is a match
    assert found.mask_agreement == 0
    assert found.probability_difference == pytest.approx(0.75)
    assert found.digest != judge(much, None, trained=True).digest
    assert judge(much, much, trained=True).mask_agreement == 1
    untrained = judge(nothing, much, trained=False)
    assert (untrained.dice, untrained.mask_agreement) == (None, None)
    assert untrained.probability_difference == pytest.approx(0.75)
    assert judge(much, None, trained=True).mask_agreement is None

    fewer = answers_of(FakeBackend(SPEC, 0.75), samples[:2])  # random weights see fewer images
    assert judge(fewer, much, trained=True).mask_agreement == 1
    assert judge(much, fewer, trained=True).probability_difference == 0


def test_one_that_ignores_its_input_is_detected() -> None:
    samples = labelled_images(3).samples
    looking = FakeBackend(SPEC, lambda tensor: np.full((32, 48), tensor.mean() % 1, np.float32))
    assert answers_of(FakeBackend(SPEC), samples).constant
    assert not answers_of(looking, samples).constant
    assert not answers_of(FakeBackend(SPEC), samples[:1]).constant  # one alone tells nothing
