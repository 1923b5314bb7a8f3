"""Makes training images look as if another machine had taken them.

:mod:`streamseg.training.augment` varies place, scale and gain; this varies what distinguishes machines and
their settings: the curve of grey levels, dynamic range, size and contrast of speckle, sharpness, resolution,
the shape of the field of view, drawings on the image, and compression. Grey levels also follow other images'.

Every image has a seed of its own, from which all of its changes are drawn, so that it depends neither on the
image's batch or process nor on an interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import overload

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamseg.core.types import Grey
from streamseg.training.augment import sample_seed
from streamseg.training.cache import Cache

Pixels = npt.NDArray[np.float32]
"""Grey levels (H, W), 0..1."""
Planes = npt.NDArray[np.uint8]
"""Labels (C, H, W) of 0/1."""
Change = Callable[[np.random.Generator, Pixels], Pixels]

MATCHED, CURVED = 0.35, 0.35
"""Shares of the images whose grey levels follow another image's, and a random curve."""
COARSE = 0.18
"""Share whose coarse brightness is another image's."""
MASKED = 0.12
"""Share seen through another field of view."""
BLACK = 2
"""Grey levels up to this, of 255, are the black around the image, which has no tissue."""
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX)


class CachedImages(Sequence[Grey]):
    """The images of some rows of caches, each uint8 (H, W), read when asked for."""

    def __init__(self, parts: Sequence[tuple[Cache, Sequence[int]]]) -> None:
        self._places = [(cache, row) for cache, rows in parts for row in rows]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Grey: ...
    @overload
    def __getitem__(self, index: slice) -> list[Grey]: ...
    def __getitem__(self, index: int | slice) -> Grey | list[Grey]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        cache, row = self._places[index]
        return np.asarray(cache.images[row, 0].numpy())


def restyle_batch(
    images: Tensor, labels: Tensor, seeds: Sequence[int], share: float, references: Sequence[Grey]
) -> tuple[Tensor, Tensor]:
    """Restyle a share of a batch's images: uint8 (N, 1, H, W) with labels uint8 (N, C, H, W) of 0/1.

    Whether an image is restyled follows from its seed, too. Returns new tensors if any image changes.
    """
    chosen = [number for number, seed in enumerate(seeds) if sample_seed(seed, "restyle?") < share * 2**63]
    if not chosen:
        return images, labels
    images, labels = images.clone(), labels.clone()
    for number in chosen:
        image, planes = restyle(
            images[number, 0].numpy(),
            labels[number].numpy(),
            sample_seed(seeds[number], "restyle"),
            references,
        )
        images[number, 0], labels[number] = torch.from_numpy(image), torch.from_numpy(planes)
    return images, labels


def restyle(image: Grey, labels: Planes, seed: int, references: Sequence[Grey]) -> tuple[Grey, Planes]:
    """An image and its labels as another machine might have given them.

    ``image`` uint8 (H, W), ``labels`` uint8 (C, H, W) of 0/1, ``seed`` 0..2^63-1; ``references`` are images
    whose grey levels may be taken over, uint8 of any size. Labels change only where the image is blackened.
    Returns new arrays of the same shapes.
    """
    rng = np.random.default_rng(seed)
    pixels = _grey_levels(rng, image, references)
    for share, change in _OPTICS:
        if rng.random() < share:
            pixels = _clipped(change(rng, pixels))
    if rng.random() < MASKED:
        seen = field_of_view(rng, *image.shape)
        pixels, labels = pixels * seen, labels * seen
    for share, change in _SCREEN:
        if rng.random() < share:
            pixels = _clipped(change(rng, pixels))
    return _to_grey(pixels), labels.copy()


def _grey_levels(rng: np.random.Generator, image: Grey, references: Sequence[Grey]) -> Pixels:
    kind = rng.random()
    pixels = _to_pixels(image)
    if kind < MATCHED:
        pixels = match_histogram(rng, image, references[int(rng.integers(len(references)))])
    elif kind < MATCHED + CURVED:
        pixels = bend_grey_levels(rng, image)
    if rng.random() < COARSE:
        pixels = match_coarse_brightness(rng, pixels, references[int(rng.integers(len(references)))])
    return _clipped(pixels)


def match_histogram(rng: np.random.Generator, image: Grey, reference: Grey) -> Pixels:
    """Move the distribution of grey levels towards another image's, but for the black around either."""
    tissue, other = image[image > BLACK], reference[reference > BLACK]
    if tissue.size < 100 or other.size < 100:
        return _to_pixels(image)
    shares, wanted = (np.bincount(values, minlength=256).cumsum() / values.size for values in (tissue, other))
    levels = np.arange(256)
    curve = np.interp(shares, wanted, levels)
    curve[: BLACK + 1] = levels[: BLACK + 1]
    return _through(image, levels + rng.uniform(0.5, 1) * (curve - levels))


def bend_grey_levels(rng: np.random.Generator, image: Grey) -> Pixels:
    """Map grey levels by a random rising curve of three to five straight pieces."""
    pieces = int(rng.integers(3, 6))
    heights = np.concatenate([[0.0], rng.gamma(1.5, 1.0, pieces).cumsum()])
    heights *= rng.uniform(0.7, 1) / heights[-1]
    return _through(image, 255 * np.interp(np.arange(256) / 255, np.linspace(0, 1, pieces + 1), heights))


def match_coarse_brightness(rng: np.random.Generator, pixels: Pixels, reference: Grey) -> Pixels:
    """Take the amplitudes of the lowest spatial frequencies from another image (arXiv:2004.05498)."""
    height, width = pixels.shape
    own = np.fft.rfft2(pixels)
    other = np.fft.rfft2(_to_pixels(cv2.resize(reference, (width, height), interpolation=cv2.INTER_AREA)))
    radius = rng.uniform(0.008, 0.035)
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) / radius
    share = rng.uniform(0.3, 1) * np.exp(-(distance**2))
    share[0, 0] *= rng.uniform(0, 0.7)  # the mean grey level
    amplitude = np.abs(own) * (1 - share) + np.abs(other) * share
    return np.fft.irfft2(amplitude * np.exp(1j * np.angle(own)), s=pixels.shape).astype(np.float32)


def change_dynamic_range(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Compress or expand grey levels logarithmically, as the setting of that name does."""
    factor = math.exp(rng.uniform(-1.2, 2.2))
    if rng.random() < 0.6:
        return np.asarray(np.log1p(factor * pixels) / math.log1p(factor), np.float32)
    return np.asarray(np.expm1(math.log1p(factor) * pixels) / factor, np.float32)


def smooth_speckle(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Smooth as scanners do: by a median, with edges kept, or by a blur that differs by direction."""
    kind = int(rng.integers(3))
    if kind == 0:
        return _to_pixels(cv2.medianBlur(_to_grey(pixels), int(rng.choice([3, 5]))))
    if kind == 1:
        spread, radius = float(rng.uniform(15, 50)), float(rng.uniform(1.5, 4))
        return _to_pixels(cv2.bilateralFilter(_to_grey(pixels), 5, spread, radius))
    across, down = float(rng.uniform(0.5, 2)), float(rng.uniform(0.4, 1.6))
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), across, sigmaY=down), np.float32)


def add_speckle(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Multiply by speckle of another size, which is wider than high as a beam's is."""
    down = math.exp(rng.uniform(-0.9, 1.1))
    across = down * math.exp(rng.uniform(-0.2, 0.9))
    grain = rng.standard_normal(pixels.shape, dtype=np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), across, sigmaY=down), np.float32)
    grain *= np.float32(rng.uniform(0.05, 0.35)) / max(np.float32(1e-6), grain.std())
    return pixels * np.exp(grain)


def sharpen(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Enhance edges; strongly enhanced ones ring."""
    blurred = np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.8, 3))), np.float32)
    return pixels + np.float32(rng.uniform(0.4, 1.8)) * (pixels - blurred)


def lose_resolution(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Sample down and up again, as a smaller image on the screen."""
    height, width = pixels.shape
    down = rng.uniform(0.35, 0.9)
    across = down * rng.uniform(0.8, 1.25)
    size = max(16, round(width * across)), max(16, round(height * down))
    small = cv2.resize(pixels, size, interpolation=int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR])))
    back = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST]))
    return np.asarray(cv2.resize(small, (width, height), interpolation=back), np.float32)


def haze_a_depth(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Add haze with less contrast at one depth, as reverberation or a badly set gain does."""
    depths = np.linspace(0, 1, len(pixels), dtype=np.float32)[:, None]
    band = np.exp(-(((depths - rng.uniform(0, 1)) / rng.uniform(0.1, 0.5)) ** 2)).astype(np.float32)
    return np.asarray(pixels * (1 - 0.3 * band) + band * rng.uniform(0, 0.25), np.float32)


def field_of_view(rng: np.random.Generator, height: int, width: int) -> Planes:
    """A trapezoid or a sector, uint8 (H, W) of 0/1: what a steered linear or a curved probe shows."""
    seen = np.zeros((height, width), np.uint8)
    centre = width * (0.5 + rng.uniform(-0.05, 0.05))
    if rng.random() < 0.5:
        top, bottom = rng.uniform(0.2, 0.475) * width, rng.uniform(0.4, 0.65) * width
        corners = [
            (centre - top, 0),
            (centre + top, 0),
            (centre + bottom, height),
            (centre - bottom, height),
        ]
        cv2.fillPoly(seen, [np.array(corners, np.int32)], (1,))
        return seen
    above = rng.uniform(0.15, 1.2) * height
    middle = round(centre), round(-above)
    outer, inner = round(height + above), round(above * rng.uniform(1, 1.15))
    opening = rng.uniform(25, 50)
    cv2.ellipse(seen, middle, (outer, outer), 0, 90 - opening, 90 + opening, (1,), -1)
    cv2.circle(seen, middle, inner, (0,), -1)
    return seen


def draw_overlays(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Draw what screens draw over the image: text, rulers, calipers, boxes."""
    grey = _to_grey(pixels)
    height, width = grey.shape
    for _ in range(int(rng.integers(1, 4))):
        colour = (float(rng.uniform(100, 255)),)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        kind = int(rng.integers(4))
        if kind == 0:
            text = "".join(map(chr, rng.integers(48, 123, int(rng.integers(2, 12))).tolist()))
            font, size = FONTS[int(rng.integers(len(FONTS)))], float(rng.uniform(0.3, 0.8))
            cv2.putText(grey, text, (x - 20, y), font, size, colour, 1, cv2.LINE_AA)
        elif kind == 1:
            step, left = int(rng.integers(8, 40)), int(rng.choice([2, width - 6, x]))
            for row in range(0, height, step):
                cv2.line(grey, (left, row), (left + int(rng.integers(2, 6)), row), colour)
        elif kind == 2:
            for _ in range(2):
                place = int(rng.integers(width)), int(rng.integers(height))
                cv2.drawMarker(grey, place, colour, cv2.MARKER_CROSS, int(rng.integers(5, 11)))
        else:
            corner = x + int(rng.integers(4, 14)), y + int(rng.integers(30, 110))
            cv2.rectangle(grey, (x, y), corner, colour, -1 if rng.random() < 0.3 else 1)
    return _to_pixels(grey)


def compress(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Compress as JPEG and decode."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
    data = cv2.imencode(".jpg", _to_grey(pixels), quality)[1]
    return _to_pixels(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8))


_OPTICS: tuple[tuple[float, Change], ...] = (
    (0.35, change_dynamic_range),
    (0.3, smooth_speckle),
    (0.3, add_speckle),
    (0.25, sharpen),
    (0.3, lose_resolution),
    (0.12, haze_a_depth),
)
"""Changes of the image within its field of view, in order, each with the share of images that it changes."""
_SCREEN: tuple[tuple[float, Change], ...] = ((0.2, draw_overlays), (0.25, compress))
"""The same for what happens on the screen and after it."""


def _through(image: Grey, curve: npt.NDArray[np.float64]) -> Pixels:
    """Grey levels by a curve of 256 values, 0..255."""
    return np.asarray(curve / 255, np.float32)[image]


def _to_pixels(image: npt.NDArray[np.uint8] | cv2.typing.MatLike) -> Pixels:
    return np.asarray(image, np.float32) / np.float32(255)


def _to_grey(pixels: Pixels) -> Grey:
    return np.asarray(np.clip(pixels, 0, 1) * 255 + 0.5, np.uint8)


def _clipped(pixels: Pixels) -> Pixels:
    return np.asarray(np.clip(pixels, 0, 1), np.float32)
