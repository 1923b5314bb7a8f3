import numpy as np

from streamseg.backends.fake import FakeBackend
from streamseg.datasets.reader import Sample
from streamseg.evaluation import confusions
from streamseg.segment import Segmenter
from streamseg.types import InputSpec

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
