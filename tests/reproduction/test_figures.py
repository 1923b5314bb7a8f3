"""The report's pictures."""

import io
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.core.errors import DataError
from streamseg.reproduction.figures import dice_figure, example_figure, loss_figure, smoothed
from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import summarise
from tests.reproduction.stored import write_stored


@pytest.mark.parametrize("folds", [1, 4])
def test_curves_are_svg_and_the_same_each_time(tmp_path, folds):
    missing = [(net, fold) for net in ("unet", "segnet", "improved_unet") for fold in range(folds, 4)]
    results = read_results(write_stored(tmp_path, missing=missing))
    for draw in (lambda: loss_figure(results), lambda: dice_figure(summarise(results))):
        drawn = draw()
        assert ET.fromstring(drawn).tag.endswith("svg")
        assert b"<image" not in drawn
        assert draw() == drawn


def test_smoothing_starts_with_what_there_is():
    assert smoothed([4.0, 2.0, 0.0, 0.0], 2) == pytest.approx([4, 3, 1, 0])
    assert smoothed([1.0, 2.0], 9) == pytest.approx([1, 1.5])


@pytest.mark.parametrize("found", [0, 255])
def test_examples_of_nets_that_find_nothing_or_everything(tmp_path, found):
    results = read_results(write_stored(tmp_path, folds=2))
    cv2.imwrite(str(tmp_path / "runs/unet-1/example.png"), np.full((42, 58), found, np.uint8))
    cv2.imwrite(str(tmp_path / "examples/1-mask.png"), np.full((42, 58), found, np.uint8))
    picture = Image.open(io.BytesIO(example_figure(results, tmp_path)))
    assert picture.format == "PNG"
    assert picture.width > 2 * picture.height  # five columns, two rows


def test_a_missing_example_is_named(tmp_path):
    results = read_results(write_stored(tmp_path, folds=2))
    (tmp_path / "runs/segnet-2/example.png").unlink()
    with pytest.raises(DataError, match=r"segnet-2.*remove the run"):
        example_figure(results, tmp_path)
