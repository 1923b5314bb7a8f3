"""Random changes of batches: what another probe, patient or setting could have shown."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Warp images and labels together, then change the images' grey levels.

    ``images`` (N, 1, H, W) in 0..1, ``labels`` (N, C, H, W) of 0/1; returns the same shapes and ranges.
    All randomness is drawn from ``generator``. ``strength`` scales every range; 0 leaves the batch alone.
    """
    if strength == 0:
        return images, labels
    grid = _warp_grid(images, generator, strength)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    labels = F.grid_sample(labels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return _grey_levels(images, generator, strength), (labels >= 0.5).to(labels.dtype)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _warp_grid(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Sampling grid (N, H, W, 2): flip, rotation, zoom, shear, shift, and a smooth elastic field."""
    n, _, height, width = images.shape
    angle = _uniform(n, -0.3, 0.3, generator) * strength
    zoom = torch.exp(_uniform(n, -0.4, 0.3, generator) * strength)  # below 1 shows less, larger
    stretch = torch.exp(_uniform(n, -0.15, 0.15, generator) * strength)
    shear = _uniform(n, -0.15, 0.15, generator) * strength
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    aspect = width / height
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0] = flip * zoom * stretch * cos
    matrix[:, 0, 1] = zoom * (shear - sin) / aspect
    matrix[:, 1, 0] = flip * zoom * sin * aspect
    matrix[:, 1, 1] = zoom / stretch * cos
    matrix[:, :, 2] = (torch.rand(n, 2, generator=generator) - 0.5) * 0.5 * strength
    grid = F.affine_grid(matrix, [n, 1, height, width], align_corners=False)
    coarse = torch.randn(n, 2, 6, 7, generator=generator) * 0.04 * strength
    field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return grid + field.permute(0, 2, 3, 1)


def _grey_levels(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Gamma, gain, a gain ramp over depth and one across, smooth multiplicative fields, blur, noise."""
    n, _, height, width = images.shape

    def draw(low: float, high: float) -> Tensor:
        return (_uniform(n, low, high, generator) * strength).view(n, 1, 1, 1)

    gamma, gain = torch.exp(draw(-0.5, 0.5)), torch.exp(draw(-0.4, 0.4))
    depth = torch.linspace(-1, 1, height).view(1, 1, height, 1) * draw(-0.4, 0.4)
    across = torch.linspace(-1, 1, width).view(1, 1, 1, width) * draw(-0.15, 0.15)
    patches = torch.randn(n, 1, 5, 6, generator=generator) * 0.12 * strength
    smooth = F.interpolate(patches, size=(height, width), mode="bicubic", align_corners=True)
    grain = torch.randn(n, 1, height, width, generator=generator) * draw(0.0, 0.12)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    mixed = torch.lerp(images, blurred, draw(-0.5, 1.0))
    changed = mixed.clamp(min=1e-4) ** gamma * gain * torch.exp(depth + across + smooth + grain)
    return _blank(changed.clamp(0, 1), generator, strength)


def _blank(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Blacken a border strip in some images, as padding or a narrower probe would."""
    n, _, height, width = images.shape
    for image in range(n):
        if torch.rand(1, generator=generator).item() < 0.25 * strength:
            side = int(torch.randint(0, 4, (1,), generator=generator))
            share = float(torch.rand(1, generator=generator)) * 0.2
            rows, columns = math.ceil(height * share), math.ceil(width * share)
            cut = [
                (slice(0, rows), slice(None)),
                (slice(height - rows, height), slice(None)),
                (slice(None), slice(0, columns)),
                (slice(None), slice(width - columns, width)),
            ][side]
            images[image, :, cut[0], cut[1]] = 0
    return images
