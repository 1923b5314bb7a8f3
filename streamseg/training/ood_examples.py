"""Generates out-of-distribution images to test the OOD detector.

None of them takes part in fitting it. Those made from ultrasound (rotated, inverted, blurred, enlarged, with
colour Doppler) are the hard ones; photographs and other kinds of medical images cannot be generated.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from streamseg.core.types import Grey, Image

SHAPE = (480, 560)
"""Height and width of the images that are not made from ultrasound."""
_RED_FLOW, _BLUE_FLOW = (20, 60, 210), (220, 90, 20)


def out_of_distribution_images(ultrasound: Sequence[Grey], seed: int = 0) -> dict[str, list[Image]]:
    """Images by kind: generated ones, and one of each other kind from every ultrasound image."""
    rng = np.random.default_rng(seed)
    return {
        "black": [np.full(SHAPE, level, np.uint8) for level in (0, 4)],
        "white": [np.full(SHAPE, level, np.uint8) for level in (250, 255)],
        "grey": [np.full(SHAPE, level, np.uint8) for level in (40, 90, 140, 200)],
        "noise": [_noise(rng, mean, spread) for mean, spread in ((40, 20), (90, 40), (128, 60), (200, 20))],
        "ramps": _ramps(),
        "text": [_text(rng, paper) for paper in (0, 40, 220, 255)],
        "turned 90": [np.ascontiguousarray(np.rot90(image)) for image in ultrasound],
        "turned 180": [np.ascontiguousarray(image[::-1, ::-1]) for image in ultrasound],
        "negative": [255 - image for image in ultrasound],
        "soft, 4 px": [_soft(image, 4) for image in ultrasound],
        "soft, 8 px": [_soft(image, 8) for image in ultrasound],
        "enlarged 2x": [_middle(image, 2) for image in ultrasound],
        "enlarged 4x": [_middle(image, 4) for image in ultrasound],
        "gain x3": [cv2.convertScaleAbs(image, alpha=3) for image in ultrasound],  # type: ignore[misc]
        "colour Doppler": [paint_flow(image, rng) for image in ultrasound],
    }


def paint_flow(image: Grey, rng: np.random.Generator) -> Image:
    """An image with colour Doppler, BGR: one to three patches of flow, each 0.3 to 3 % of its area."""
    height, width = image.shape
    painted = np.repeat(image[..., None], 3, axis=2)
    for patch in range(int(rng.integers(1, 4))):
        share, flatness = rng.uniform(0.003, 0.03), rng.uniform(0.5, 1.0)
        radius = np.sqrt(share * height * width / (np.pi * flatness))
        centre = round(rng.uniform(0.2, 0.8) * width), round(rng.uniform(0.2, 0.7) * height)
        axes = max(2, round(radius)), max(2, round(radius * flatness))
        inside = np.zeros(image.shape, np.uint8)
        cv2.ellipse(inside, centre, axes, rng.uniform(0, 180), 0, 360, 1, cv2.FILLED)
        flow = np.array(_RED_FLOW if patch % 2 == 0 else _BLUE_FLOW, np.float32)
        speed = cv2.GaussianBlur(rng.standard_normal(image.shape, np.float32), (0, 0), 5) * 60
        shades = np.clip(flow + np.asarray(speed)[..., None], 0, 255).astype(np.uint8)
        painted[inside > 0] = shades[inside > 0]
    return painted


def _noise(rng: np.random.Generator, mean: float, spread: float) -> Grey:
    return np.clip(rng.normal(mean, spread, SHAPE), 0, 255).astype(np.uint8)


def _ramps() -> list[Image]:
    down, across = (np.linspace(0, 1, side) for side in SHAPE)
    y, x = np.meshgrid(down, across, indexing="ij")
    shades = (y, x, 1 - y, (x + y) / 2, np.hypot(x - 0.5, y - 0.5), (8 * x % 1 > 0.5) ^ (8 * y % 1 > 0.5))
    return [(np.clip(shade, 0, 1) * 255).astype(np.uint8) for shade in shades]


def _text(rng: np.random.Generator, paper: int) -> Grey:
    """A screen full of letters, like a machine's menu."""
    screen = np.full(SHAPE, paper, np.uint8)
    ink = 230 if paper < 128 else 10
    for row in range(24, SHAPE[0], 26):
        line = "".join(chr(code) for code in rng.integers(48, 123, 34))
        cv2.putText(screen, line, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, 1, cv2.LINE_AA)
    return screen


def _soft(image: Grey, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _middle(image: Grey, factor: int) -> Image:
    height, width = (max(1, side // factor) for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])
