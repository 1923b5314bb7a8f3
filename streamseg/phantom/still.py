"""Single pictures, each of another person."""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.errors import UsageError
from streamseg.phantom import scan
from streamseg.phantom.anatomy import build
from streamseg.phantom.model import Map, PhantomImage
from streamseg.phantom.shapes import Rng, noise

NERVE_SHARE = 0.45
"""Part of the seeds that show a nerve when the caller leaves it open."""
SMALLEST = 64
"""Least height and width of a picture, pixels."""


def check_size(seed: int, height: int, width: int) -> None:
    """Raise UsageError for a seed or size that no picture can have."""
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative; give 0 or more")
    if not (SMALLEST <= height <= 4096 and SMALLEST <= width <= 4096):
        raise UsageError(
            f"phantom size {width}x{height} cannot be drawn; give {SMALLEST} to 4096 pixels each"
        )


def render_still(
    seed: int, *, height: int = 420, width: int = 580, nerve: bool | None = None
) -> PhantomImage:
    """Draw the picture of a seed: another region, anatomy and machine setting for every seed.

    ``nerve`` True or False forces a nerve or its absence; None leaves it to the seed (about 45 % have one).
    The same arguments give the same bytes. Raises UsageError for a negative seed or an impossible size.
    """
    check_size(seed, height, width)
    rng = np.random.default_rng((seed, 1))
    present = bool(rng.random() < NERVE_SHARE) if nerve is None else nerve
    mm = rng.uniform(28, 46) / height
    machine = scan.Machine.random(rng)
    canvas = build(rng, height, width, mm, nerve=present, centre=width / 2, span=width)
    envelope = scan.envelope(rng, canvas, machine)
    envelope *= contact(rng, height, width, mm)
    envelope += scan.noise_grain(rng, canvas.shape, machine, mm) * scan.noise_level(height, machine)
    return PhantomImage(scan.compress(envelope, machine), canvas.nerve, canvas.vessel)


def contact(rng: Rng, height: int, width: int, mm: float) -> Map:
    """Gain (linear, (height, width)) of uneven coupling: soft bands, at times a side without contact."""
    columns = 1.6 * noise(rng, (1, width), 6 / mm, 1.0)
    if rng.random() < 0.08:
        edge = rng.uniform(0.02, 0.25) * width
        away = np.arange(width, dtype=np.float32)
        away = away if rng.random() < 0.5 else away[::-1]
        columns = columns - np.float32(rng.uniform(10, 30)) / (
            1 + np.exp((away - edge) / np.float32(1.2 / mm))
        )
    rows = 1.5 * cv2.resize(
        rng.standard_normal((8, 1), dtype=np.float32), (1, height), interpolation=cv2.INTER_CUBIC
    )
    return np.exp((columns + rows) * np.float32(scan.PER_DB)).astype(np.float32)
