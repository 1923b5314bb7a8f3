"""Overlap of masks, and the evaluation of an engine on labelled images."""

from dataclasses import replace

import numpy as np
import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.core.types import InputSpec, OutputCalibration, State
from streamseg.datasets.reader import Sample
from streamseg.evaluation.dataset import Evaluation, confusions
from streamseg.evaluation.overlap import Confusion, summarise
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.ood_reference import feature_rows, fit_ood_reference


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
    assert any(not (c.present or c.found) for c in counts)
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
    assert found.nerve.distances.hd95 == pytest.approx(4, abs=1)
    assert found.nerve.distances_mm.hd95 == pytest.approx(0.2 * found.nerve.distances.hd95)
    assert found.to_json()["hd95_mm"] == found.nerve.distances_mm.hd95
    figures = evaluation.to_json()
    assert (figures["images"], figures["outlines"], figures["dice_interval"]) == (1, 1, None)
    assert figures["asd_mean_mm"] == found.nerve.distances_mm.asd
    assert figures["pixel_ece"] == pytest.approx(0.25 * 0.75, abs=0.1)


VESSELS = replace(SPEC, structures=("nerve", "vessel"))
"""A net that outlines vessels too."""


def block(left: int, right: int) -> np.ndarray:
    """A mask of an image of 64 x 64, 32 rows high."""
    mask = np.zeros((64, 64), bool)
    mask[16:48, left:right] = True
    return mask


def two_planes() -> np.ndarray:
    """Finds a nerve in the left half of block(0, 32), a vessel in block(32, 64)."""
    planes = np.full((2, 32, 32), 0.25, np.float32)
    planes[0, 8:24, :8] = planes[1, 8:24, 16:] = 1
    return planes


def evaluate(spec: InputSpec, planes: np.ndarray, labels: list, **options) -> Evaluation:
    """Black images with labels (nerve, vessel), by an engine that always answers the same."""
    evaluation = Evaluation(Segmenter(FakeBackend(spec, planes)), **options)
    for nerve, vessel in labels:
        evaluation.add(Sample("s", np.zeros((64, 64), np.uint8), nerve, vessel))
    return evaluation


def test_each_structure_is_compared_with_its_own_labels():
    nothing = block(0, 0)
    labels = [(block(0, 32), block(32, 64)), (nothing, nothing), (block(0, 32), None), (nothing, block(0, 8))]
    evaluation = evaluate(VESSELS, two_planes(), labels, spacing_mm=(0.1, 0.1))
    assert [list(image.structures) for image in evaluation.images] == [
        ["nerve", "vessel"], ["nerve", "vessel"], ["nerve"], ["nerve", "vessel"],
    ]  # fmt: skip
    figures = evaluation.to_json()
    nerve, vessel = figures["structures"]["nerve"], figures["structures"]["vessel"]
    assert (nerve["images"], vessel["images"]) == (4, 3)
    assert nerve["detection"] == {"true": 2, "misplaced": 0, "false": 2, "missed": 0}
    assert vessel["detection"] == {"true": 2, "misplaced": 1, "false": 1, "missed": 0}
    dice = [
        image.structures["vessel"].count.dice for image in evaluation.images if "vessel" in image.structures
    ]
    assert dice == pytest.approx([0.98, 0, 0], abs=0.03)
    assert vessel["dice_mean"] == pytest.approx(np.mean(dice))
    assert vessel["iou_mean"] == pytest.approx(0.32, abs=0.02)
    assert (vessel["sensitivity"], vessel["specificity"]) == (1, 0)
    assert vessel["outlines"] == 2
    assert vessel["hd95_mean_mm"] == pytest.approx(vessel["hd95_mean_px"] / 10)
    assert vessel["pixel_ece"] > 0
    assert vessel["confidence"]["auroc"] is not None


def test_a_structure_that_is_missed_is_counted():
    evaluation = evaluate(VESSELS, np.zeros((2, 32, 32), np.float32), [(block(0, 32), block(32, 64))] * 3)
    found = evaluation.to_json()["structures"]["vessel"]
    assert found["detection"] == {"true": 0, "misplaced": 0, "false": 0, "missed": 3}
    assert (found["sensitivity"], found["hd95_mean_px"]) == (0, None)


def test_figures_beside_the_structures_are_the_nerves():
    """As they were before vessels; an engine for nerves alone has no others."""
    labels = [(block(0, 32), block(32, 64)), (block(0, 0), block(32, 64)), (block(4, 30), None)]
    alone = evaluate(SPEC, two_planes()[:1], labels).to_json()
    both = evaluate(VESSELS, two_planes(), labels).to_json()
    assert list(alone["structures"]) == ["nerve"]
    for figures in (alone, both):
        nerve = figures["structures"]["nerve"]
        assert {key: figures[key] for key in nerve if key in figures}.items() <= nerve.items()
        assert "confidence" in figures
        assert "detection" not in figures
    del alone["structures"], both["structures"]
    assert alone == both


def test_the_figures_of_an_image_are_the_nerves_and_those_of_each_structure():
    found = evaluate(VESSELS, two_planes(), [(block(0, 0), block(32, 64))]).images[0].to_json()
    assert (found["nerve"], found["found"], found["dice"]) == (False, True, 0)
    vessel = found["structures"]["vessel"]
    assert (vessel["present"], vessel["found"]) == (True, True)
    assert vessel["dice"] == pytest.approx(0.98, abs=0.03)
    assert vessel["hd95_px"] == pytest.approx(0, abs=1)
    assert vessel["hd95_mm"] is None


def test_data_without_labels_of_a_structure_has_no_figures_of_it():
    figures = evaluate(VESSELS, two_planes(), [(block(0, 32), None)]).to_json()
    assert list(figures["structures"]) == ["nerve"]


def test_no_images_have_no_figures():
    with pytest.raises(ValueError, match="no images"):
        Evaluation(Segmenter(FakeBackend(SPEC))).to_json()


def test_withholding_outlines_of_unlike_images_is_counted_by_the_dice_that_it_costs():
    """Of three white images the one with nerve loses its outline, the others gain by having none."""
    rng = np.random.default_rng(0)
    stills = [rng.integers(0, 80, (64, 64), np.uint8) for _ in range(16)]
    reference = fit_ood_reference([feature_rows(stills, SPEC, copies=1)]).text
    known = OutputCalibration(slope=1, intercept=0, doubt=0.3, presence=0.1, familiar=reference)
    spec = SPEC.calibrated({"nerve": known})
    evaluation = Evaluation(Segmenter(FakeBackend(spec, two_planes()[:1]), withhold=False))
    white = np.full((64, 64), 255, np.uint8)
    for nerve in (block(0, 16), block(0, 0), block(0, 0)):
        assert evaluation.add(Sample("s", white, nerve, None)).state is State.UNLIKE_TRAINING
    found = evaluation.details("nerve")["unlike"]
    assert found["images"] == 3
    assert found["dice_mean"] == pytest.approx(0.98 / 3, abs=0.02)
    assert found["dice_mean_withheld"] == pytest.approx(2 / 3)
    assert found["cost"] == pytest.approx(found["dice_mean"] - found["dice_mean_withheld"])


def test_an_outline_elsewhere_is_misplaced():
    found = evaluate(VESSELS, two_planes(), [(block(40, 64), block(0, 16))]).details("nerve")["detection"]
    assert found == {"true": 1, "misplaced": 1, "false": 0, "missed": 0}
