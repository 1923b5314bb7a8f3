"""Augments batches at random, as other probes, patients and settings would change them.

Every image has a seed of its own, from which its whole augmentation is drawn. So it depends neither on the
image's batch or process nor on what was drawn before an interruption.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NUMBERS = 20
"""Uniform random numbers for each image."""


def sample_seed(*parts: int | str) -> int:
    """A seed, 0..2^63-1, that depends on all parts."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


class _Draws:
    """Random numbers of a batch, on the images' device; ``uniform`` hands out a fresh column each time."""

    def __init__(self, seeds: Sequence[int], height: int, width: int, device: torch.device) -> None:
        numbers, warps, patches, grains = [], [], [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            numbers.append(torch.rand(NUMBERS, generator=generator))
            warps.append(torch.randn(2, 6, 7, generator=generator))
            patches.append(torch.randn(1, 5, 6, generator=generator))
            # as many numbers as pixels: drawn on the device that needs them
            local = torch.Generator(device).manual_seed(seed)
            grains.append(torch.randn(1, height, width, generator=local, device=device))
        self._numbers = torch.stack(numbers).to(device)
        self._used = 0
        self.warp, self.patch = torch.stack(warps).to(device), torch.stack(patches).to(device)
        self.grain = torch.stack(grains)

    def uniform(self, low: float, high: float) -> Tensor:
        """One number in low..high for each image, (N,)."""
        self._used += 1
        return self._numbers[:, self._used - 1] * (high - low) + low


def augment(
    images: Tensor, labels: Tensor, seeds: Sequence[int], *, strength: float = 1.0, soft: int = 0
) -> tuple[Tensor, Tensor]:
    """Warp images and labels together, then change the images' grey levels.

    ``images`` (N, 1, H, W) in 0..1, ``labels`` (N, C, H, W) of 0/1, ``seeds`` one for each image; returns the
    same shapes and ranges, on the same device. ``strength`` scales every range; 0 changes nothing. The last
    ``soft`` planes of the labels are probabilities.
    """
    if strength == 0:
        return images, labels
    draws = _Draws(seeds, images.shape[2], images.shape[3], images.device)
    grid = _warp_grid(images, draws, strength)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    labels = F.grid_sample(labels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    changed = _grey_levels(images, draws, strength)
    sharp = labels[:, : labels.shape[1] - soft]
    sharp.copy_(sharp >= 0.5)
    _blank(changed, labels, draws, strength)
    return changed, labels


def _warp_grid(images: Tensor, draws: _Draws, strength: float) -> Tensor:
    """Sampling grid (N, H, W, 2): flip, rotation, zoom, shear, shift, and a smooth elastic field."""
    n, _, height, width = images.shape
    angle = draws.uniform(-0.3, 0.3) * strength
    zoom = torch.exp(draws.uniform(-0.4, 0.3) * strength)  # below 1 shows less, larger
    stretch = torch.exp(draws.uniform(-0.15, 0.15) * strength)
    shear = draws.uniform(-0.15, 0.15) * strength
    flip = torch.where(draws.uniform(0, 1) < 0.5, -1.0, 1.0)
    aspect = width / height
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.zeros(n, 2, 3, device=images.device)
    matrix[:, 0, 0] = flip * zoom * stretch * cos
    matrix[:, 0, 1] = zoom * (shear - sin) / aspect
    matrix[:, 1, 0] = flip * zoom * sin * aspect
    matrix[:, 1, 1] = zoom / stretch * cos
    matrix[:, 0, 2] = draws.uniform(-0.25, 0.25) * strength
    matrix[:, 1, 2] = draws.uniform(-0.25, 0.25) * strength
    grid = F.affine_grid(matrix, [n, 1, height, width], align_corners=False)
    coarse = draws.warp * 0.04 * strength
    field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return grid + field.permute(0, 2, 3, 1)


def _grey_levels(images: Tensor, draws: _Draws, strength: float) -> Tensor:
    """Gamma, gain, a gain ramp over depth and one across, smooth multiplicative fields, blur, noise."""
    _, _, height, width = images.shape

    def draw(low: float, high: float) -> Tensor:
        return (draws.uniform(low, high) * strength).view(-1, 1, 1, 1)

    gamma, gain = torch.exp(draw(-0.5, 0.5)), torch.exp(draw(-0.4, 0.4))
    rows = torch.linspace(-1, 1, height, device=images.device).view(1, 1, height, 1)
    columns = torch.linspace(-1, 1, width, device=images.device).view(1, 1, 1, width)
    depth, across = rows * draw(-0.4, 0.4), columns * draw(-0.15, 0.15)
    patches = draws.patch * 0.12 * strength
    smooth = F.interpolate(patches, size=(height, width), mode="bicubic", align_corners=True)
    grain = draws.grain * draw(0.0, 0.12)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    mixed = torch.lerp(images, blurred, draw(-0.5, 1.0))
    changed = mixed.clamp(min=1e-4) ** gamma * gain * torch.exp(depth + across + smooth + grain)
    return changed.clamp(0, 1)


def _blank(images: Tensor, labels: Tensor, draws: _Draws, strength: float) -> None:
    """Blacken a border strip of some images in place, as padding or a narrower probe would.

    There is no nerve to be found in the strip, so its labels go too.
    """
    _, _, height, width = images.shape
    chosen = (draws.uniform(0, 1) < 0.25 * strength).tolist()
    sides, shares = draws.uniform(0, 4).tolist(), draws.uniform(0, 0.2).tolist()
    for image in (number for number, yes in enumerate(chosen) if yes):
        rows, columns = math.ceil(height * shares[image]), math.ceil(width * shares[image])
        cut = [
            (slice(0, rows), slice(None)),
            (slice(height - rows, height), slice(None)),
            (slice(None), slice(0, columns)),
            (slice(None), slice(width - columns, width)),
        ][min(3, int(sides[image]))]
        images[image, :, cut[0], cut[1]] = 0
        labels[image, :, cut[0], cut[1]] = 0
