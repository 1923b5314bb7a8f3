"""An ensemble's mean probability for images as they come, or once for the images of a data set."""

from dataclasses import replace

import torch

from streamseg.nets.inference import load_net
from streamseg.training.augment import augment
from streamseg.training.teachers import TaughtCache, Teachers
from streamseg.training.validate import net_input
from tests.nets.random_nets import random_checkpoint
from tests.training.runs import noise

IMAGES = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(0))


def test_it_is_the_mean_over_teachers_and_the_mirrored_image():
    checkpoints = [random_checkpoint("unet"), random_checkpoint("lite_unet", folded=False)]
    found = Teachers(checkpoints, "cpu").probabilities(IMAGES, mirrored=True)
    parts = []
    for checkpoint in checkpoints:
        net, x = load_net(checkpoint), net_input(IMAGES, checkpoint.spec)
        with torch.inference_mode():
            parts += [net(x).sigmoid(), net(x.flip(-1)).sigmoid().flip(-1)]
    torch.testing.assert_close(found, torch.stack(parts).mean(0), rtol=0, atol=1e-5)
    assert not found.requires_grad
    torch.testing.assert_close(
        Teachers(checkpoints, "cpu").probabilities(IMAGES.flip(-1), mirrored=True).flip(-1),
        found,
        rtol=0,
        atol=1e-5,
    )


def test_an_image_is_scaled_to_fit_into_the_teacher_s_input_and_back():
    large = random_checkpoint("unet", (64, 96))
    seen = []
    teachers = Teachers([large], "cpu")
    net, _ = teachers._nets[0]
    net.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    assert teachers.probabilities(IMAGES).shape == (2, 1, 32, 64)
    assert seen == [(2, 1, 48, 96)]
    assert teachers.names == large.sha256


def test_the_planes_are_those_that_all_teachers_have():
    one = random_checkpoint("unet")
    weights = {n: a.repeat(2, 0) if n.startswith("head") else a for n, a in one.weights.items()}
    spec = replace(one.spec, structures=("nerve", "vessel"))
    two = replace(one, weights=weights, spec=spec)
    assert Teachers([two], "cpu").probabilities(IMAGES).shape == (2, 2, 32, 64)
    assert Teachers([two, one], "cpu").probabilities(IMAGES).shape == (2, 1, 32, 64)


def test_what_is_found_once_is_as_fine_as_the_largest_teacher_and_scaled_to_the_student():
    small, large = random_checkpoint("unet", (32, 32)), random_checkpoint("unet", (80, 128))
    teachers = Teachers([small, large], "cpu")
    spec = replace(small.spec, height=32, width=64)
    assert (teachers.large(spec).height, teachers.large(spec).width) == (64, 128)
    assert teachers.large(replace(spec, height=320, width=640)).height == 320
    images = (IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3) * 255).to(torch.uint8)
    found = teachers.targets(images, (32, 64), 1)
    wanted = teachers.probabilities(images.float() / 255, mirrored=True)
    wanted = torch.nn.functional.avg_pool2d(wanted, 2)
    assert (found.shape, found.dtype) == ((2, 1, 32, 64), torch.uint8)
    torch.testing.assert_close(found / 255, wanted, rtol=0, atol=0.003)


def test_targets_are_gathered_with_the_images_and_move_with_them():
    """The labels themselves, where there are no others."""
    cache, rows = noise(3), torch.tensor([2, 0])
    soft = torch.randint(256, (3, 1, 48, 64), dtype=torch.uint8)
    images, labels, known = TaughtCache.of(cache, 1, soft).gather(rows)
    plain = cache.gather(rows)
    assert torch.equal(images, plain[0])
    assert torch.equal(known, plain[2])
    assert torch.equal(labels, torch.cat([plain[1], soft[rows]], 1))
    exact = TaughtCache.of(cache, 2, None).gather(rows)[1]
    assert torch.equal(exact[:, 2:], plain[1] * 255)
    planes = torch.cat([plain[1].float(), plain[1][:, :1].float() * 0.3], 1)
    _, moved = augment(images.float() / 255, planes, [1, 2], strength=1.5, soft=1)
    sharp, soft = moved[:, 0], moved[:, 2]
    assert set(moved[:, :2].unique().tolist()) <= {0.0, 1.0}
    assert (soft > 0.14).equal(sharp > 0) or ((soft > 0.15) != (sharp > 0)).float().mean() < 0.002
    assert 0 < float(soft.max()) <= 0.3 + 1e-6
