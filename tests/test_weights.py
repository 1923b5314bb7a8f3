"""What ships with the package: one set of weights, the engine made from it, and figures that hold."""

from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest

from streamseg.backends import load_backend
from streamseg.backends.loading import (
    DEFAULT,
    DEFAULT_NET,
    WEIGHTS,
    shipped_engine,
    shipped_nets,
    weights_file,
)
from streamseg.core.types import Frame
from streamseg.datasets import open_dataset, split_last
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.evaluation.dataset import confusions
from streamseg.evaluation.overlap import Confusion, summarise
from streamseg.export.recipe import read_recipe
from streamseg.phantom import render_still
from streamseg.segmentation.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "usgra-seg"
each_net = pytest.mark.parametrize("net", [net for net in shipped_nets() if shipped_engine(net).is_dir()])
each_file = pytest.mark.parametrize("net", shipped_nets())


@each_net
def test_the_engine_was_made_from_the_shipped_weights(net: str):
    checkpoint = read_checkpoint(weights_file(net))
    manifest, _ = read_manifest(shipped_engine(net))
    assert manifest.checkpoint_sha256 == checkpoint.sha256
    assert manifest.spec == checkpoint.spec
    assert (manifest.precision, manifest.folded, manifest.trained) == ("int8", True, True)
    assert (checkpoint.net, checkpoint.folded, checkpoint.trained) == (net, True, True)


@each_file
def test_the_weights_stay_small(net: str):
    assert weights_file(net).stat().st_size <= 17e6


@each_net
def test_the_recipe_of_the_scales_is_in_the_checkout(net: str):
    recipe = read_recipe(ROOT / "calibration" / f"{net}.json")
    assert len(recipe.calibration.frames) + recipe.calibration.phantoms == 150


@each_net
def test_the_model_card_states_the_measured_figures(net: str):
    card = (WEIGHTS / "README.md").read_text()
    figures = read_manifest(shipped_engine(net))[0].accuracy
    assert figures.get("real_images", "") in " ".join(card.split())
    for precision in ("fp32", "int8"):
        for part in ("validation", "phantom"):
            assert f"{figures[precision][part]['dice_mean']:.3f}" in card
    assert "CC BY 4.0" in card
    assert "T. M. K. (tmkand)" in card


@each_net
def test_int8_costs_at_most_a_hundredth_of_dice(net: str):
    figures = read_manifest(shipped_engine(net))[0].accuracy
    for part in ("validation", "phantom"):
        assert figures["int8"][part]["dice_mean"] >= figures["fp32"][part]["dice_mean"] - 0.01


def test_int8_and_fp32_draw_nearly_the_same_masks():
    names = (DEFAULT, f"{DEFAULT_NET}-openvino-fp32")
    segmenters = [Segmenter(load_backend(name)) for name in names]
    agreement = []
    for seed in range(9000, 9012):
        frame = Frame(render_still(seed).image, 0, 0)
        masks = [segmenter.segment(frame).mask for segmenter in segmenters]
        agreement.append(Confusion.count(*masks).dice)
    assert median(agreement) > 0.95
    assert fmean(agreement) > 0.8  # now and then one of the two misses a faint nerve


def test_black_has_no_nerve():
    found = Segmenter(load_backend()).segment(Frame(np.zeros((420, 580), np.uint8), 0, 0))
    assert found.area_px == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/usgra-seg is not here")
def test_the_manifests_figures_come_out_again():
    if "judges" in read_manifest(WEIGHTS / DEFAULT)[0].accuracy:
        pytest.skip("other weights measured them: the shipped ones were trained on these images")
    _, validation = split_last(open_dataset(DATA), 0.2)
    counts = [count for _, count in confusions(validation, Segmenter(load_backend()))]
    stated = read_manifest(WEIGHTS / DEFAULT)[0].accuracy["int8"]["validation"]
    measured = summarise(counts)
    assert measured.images == stated["images"]
    assert measured.dice_mean == pytest.approx(stated["dice_mean"], abs=0.01)
