"""An ensemble's mean probability, the mirrored image averaged in."""

from dataclasses import replace

import torch

from streamseg.nets.inference import load_net
from streamseg.training.teachers import Teachers
from streamseg.training.validate import net_input
from tests.nets.random_nets import random_checkpoint

IMAGES = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(0))


def test_it_is_the_mean_over_teachers_and_the_mirrored_image():
    checkpoints = [random_checkpoint("unet"), random_checkpoint("lite_unet", folded=False)]
    found = Teachers(checkpoints, "cpu").probabilities(IMAGES)
    parts = []
    for checkpoint in checkpoints:
        net, x = load_net(checkpoint), net_input(IMAGES, checkpoint.spec)
        with torch.inference_mode():
            parts += [net(x).sigmoid(), net(x.flip(-1)).sigmoid().flip(-1)]
    torch.testing.assert_close(found, torch.stack(parts).mean(0), rtol=0, atol=1e-5)
    assert not found.requires_grad
    torch.testing.assert_close(
        Teachers(checkpoints, "cpu").probabilities(IMAGES.flip(-1)).flip(-1), found, rtol=0, atol=1e-5
    )


def test_an_image_is_scaled_to_the_teacher_s_area_and_back():
    large = random_checkpoint("unet", (64, 64))
    seen = []
    teachers = Teachers([large], "cpu")
    net, _ = teachers._nets[0]
    net.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    assert teachers.probabilities(IMAGES).shape == (2, 1, 32, 64)
    assert seen == [(2, 1, 45, 91)] * 2
    assert teachers.names == large.sha256


def test_the_planes_are_those_that_all_teachers_have():
    one = random_checkpoint("unet")
    weights = {n: a.repeat(2, 0) if n.startswith("head") else a for n, a in one.weights.items()}
    spec = replace(one.spec, structures=("nerve", "vessel"))
    two = replace(one, weights=weights, spec=spec)
    assert Teachers([two], "cpu").probabilities(IMAGES).shape == (2, 2, 32, 64)
    assert Teachers([two, one], "cpu").probabilities(IMAGES).shape == (2, 1, 32, 64)
