import numpy as np
import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.core.types import InputSpec
from streamseg.datasets.reader import Sample
from streamseg.evaluation.dataset import Evaluation, confusions
from streamseg.segmentation.segmenter import Segmenter

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
