"""Overlap of masks, and the evaluation of an engine on labelled images."""

import numpy as np
import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.core.types import InputSpec
from streamseg.datasets.reader import Sample
from streamseg.evaluation.dataset import Evaluation, confusions
from streamseg.evaluation.overlap import Confusion, summarise
from streamseg.segmentation.segmenter import Segmenter


def square(*box: int) -> np.ndarray:
    mask = np.zeros((10, 10), bool)
    top, left, bottom, right = box
    mask[top:bottom, left:right] = True
    return mask


EMPTY = square(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("predicted", "truth", "dice", "iou"),
    [
        (square(0, 0, 4, 4), square(0, 0, 4, 4), 1, 1),
        (square(0, 0, 4, 4), square(0, 2, 4, 6), 0.5, 1 / 3),
        (square(0, 0, 4, 4), square(5, 5, 9, 9), 0, 0),
        (EMPTY, square(0, 0, 4, 4), 0, 0),
        (square(0, 0, 4, 4), EMPTY, 0, 0),
        (EMPTY, EMPTY, 1, 1),
    ],
)
def test_dice_and_iou_by_hand(predicted, truth, dice, iou):
    count = Confusion.count(predicted, truth)
    assert count.dice == pytest.approx(dice)
    assert count.iou == pytest.approx(iou)


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        Confusion.count(EMPTY, np.zeros((3, 3), bool))


def test_summary_counts_presence_per_image():
    nerve = square(0, 0, 4, 4)
    pairs = [(nerve, nerve), (EMPTY, nerve), (EMPTY, EMPTY), (EMPTY, EMPTY), (nerve, EMPTY)]
    summary = summarise([Confusion.count(p, t) for p, t in pairs])
    assert (summary.sensitivity, summary.specificity) == (0.5, pytest.approx(2 / 3))
    assert (summary.dice_mean, summary.dice_median, summary.images) == (0.6, 1, 5)


def test_undefined_shares_are_none():
    nerve = square(0, 0, 4, 4)
    assert summarise([Confusion.count(nerve, nerve)]).specificity is None
    assert summarise([Confusion.count(EMPTY, EMPTY)]).sensitivity is None
    with pytest.raises(ValueError, match="no images"):
        summarise([])


@pytest.mark.filterwarnings("ignore")  # of packages that MONAI and torchmetrics import
def test_dice_and_iou_are_those_of_monai_and_torchmetrics():
    monai = pytest.importorskip("monai.metrics")
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    density = generator.choice([0.0, 0.1, 0.5, 1.0], (2, 60, 1, 1))
    predicted, truth = generator.random((2, 60, 9, 11)) < density
    counts = [Confusion.count(*pair) for pair in zip(predicted, truth, strict=True)]
    assert any(not (c.nerve_present or c.nerve_predicted) for c in counts)
    masks = [torch.from_numpy(array[:, None].astype(np.float32)) for array in (predicted, truth)]
    # ignore_empty counts 1 where both are empty, the competition's rule; where one is, 0.
    dice = monai.compute_dice(*masks, include_background=True, ignore_empty=False)
    iou = [
        float(torchmetrics.binary_jaccard_index(p, t.int(), zero_division=1.0))
        for p, t in zip(*masks, strict=True)
    ]
    assert [c.dice for c in counts] == pytest.approx(dice[:, 0].tolist(), abs=1e-6)
    assert [c.iou for c in counts] == pytest.approx(iou, abs=1e-6)


SPEC = InputSpec(32, 32, mean=0.0, std=1.0, threshold=0.5)


def test_each_sample_is_counted_in_its_own_pixels():
    probability = np.zeros((32, 32), np.float32)
    probability[8:24, 8:24] = 1
    segmenter = Segmenter(FakeBackend(SPEC, probability=probability))
    image = np.zeros((64, 64), np.uint8)
    truth = np.zeros((64, 64), bool)
    truth[16:48, 16:48] = True
    samples = [Sample("right", image, truth, None), Sample("empty", image, truth & False, None)]
    counted = dict(confusions(samples, segmenter))
    assert counted["right"].dice > 0.98
    assert counted["empty"].dice == 0
    assert counted["right"].both + counted["right"].true_only == 32 * 32


def test_figures_are_measured_in_the_images_own_pixels():
    probability = np.full((32, 32), 0.25, np.float32)
    probability[8:24, 8:24] = 1
    evaluation = Evaluation(Segmenter(FakeBackend(SPEC, probability=probability)), spacing_mm=(0.1, 0.2))
    truth = np.zeros((64, 64), bool)
    truth[16:48, 20:52] = True  # 4 columns to the right of what is found
    found = evaluation.add(Sample("moved", np.zeros((64, 64), np.uint8), truth, None))
    assert found.distances.hd95 == pytest.approx(4, abs=1)
    assert found.distances_mm.hd95 == pytest.approx(0.2 * found.distances.hd95)
    assert found.to_json()["hd95_mm"] == found.distances_mm.hd95
    figures = evaluation.to_json()
    assert (figures["images"], figures["outlines"], figures["dice_interval"]) == (1, 1, None)
    assert figures["asd_mean_mm"] == found.distances_mm.asd
    assert figures["pixel_ece"] == pytest.approx(0.25 * 0.75, abs=0.1)


def test_no_images_have_no_figures():
    with pytest.raises(ValueError, match="no images"):
        Evaluation(Segmenter(FakeBackend(SPEC))).to_json()
