"""Renders single images, each of another person."""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.core.errors import UsageError
from streamseg.core.types import Roi
from streamseg.phantom import scan
from streamseg.phantom.anatomy import build
from streamseg.phantom.model import Map, PhantomImage
from streamseg.phantom.shapes import Rng, noise

NERVE_SHARE = 0.45
"""Share of seeds with a nerve when the caller does not choose."""
MARGIN_SHARE = 0.4
"""Share of seeds whose image has black margins."""
MIN_SIDE = 64
"""Minimum height and width of an image, pixels."""


def check_size(seed: int, height: int, width: int) -> None:
    """Raise UsageError for an invalid seed or size."""
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative; give 0 or more")
    if not (MIN_SIDE <= height <= 4096 and MIN_SIDE <= width <= 4096):
        raise UsageError(
            f"phantom size {width}x{height} cannot be drawn; give {MIN_SIDE} to 4096 pixels each"
        )


def render_still(
    seed: int, *, height: int = 420, width: int = 580, nerve: bool | None = None
) -> PhantomImage:
    """Render the image of a seed: every seed has another region, anatomy and machine setting.

    Some have black margins, like images cut from a machine's screen. ``nerve`` True or False forces a nerve
    or its absence; with None the seed decides (about 45 % have one). The same arguments give the same bytes.
    Raises UsageError for a negative seed or an invalid size.
    """
    check_size(seed, height, width)
    rng = np.random.default_rng((seed, 1))
    present = bool(rng.random() < NERVE_SHARE) if nerve is None else nerve
    inner = _screen(rng, height, width)
    drawn = _draw(rng, inner.height, inner.width, nerve=present)
    if drawn.image.shape == (height, width):
        return drawn
    shape = (height, width)
    screen = PhantomImage(np.zeros(shape, np.uint8), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_))
    rows, columns = slice(inner.y, inner.y + inner.height), slice(inner.x, inner.x + inner.width)
    screen.image[rows, columns] = drawn.image
    screen.nerve[rows, columns] = drawn.nerve
    screen.vessel[rows, columns] = drawn.vessel
    return screen


def _draw(rng: Rng, height: int, width: int, *, nerve: bool) -> PhantomImage:
    """Draw an image that fills (height, width)."""
    mm = rng.uniform(28, 46) / height
    machine = scan.ScannerSettings.random(rng)
    canvas = build(rng, height, width, mm, nerve=nerve, centre=width / 2, span=width)
    envelope = scan.envelope(rng, canvas, machine)
    envelope *= contact(rng, height, width, mm)
    envelope += scan.noise_grain(rng, canvas.shape, machine, mm) * scan.noise_level(height, machine)
    return PhantomImage(scan.compress(envelope, machine), canvas.nerve, canvas.vessel)


def _screen(rng: Rng, height: int, width: int) -> Roi:
    """Region of the image on the machine's screen: all of it, or a part with black margins."""
    whole = Roi(0, 0, width, height)
    if rng.random() > MARGIN_SHARE:
        return whole
    inner_height = max(MIN_SIDE, round(height * rng.uniform(0.62, 1.0)))
    inner_width = width if rng.random() < 0.4 else max(MIN_SIDE, round(width * rng.uniform(0.6, 1.0)))
    # Most machines centre the image horizontally, near the top.
    left = (width - inner_width) // 2
    top = round((height - inner_height) * rng.choice([0.0, 0.3, 0.5]))
    return Roi(left, top, inner_width, inner_height)


def contact(rng: Rng, height: int, width: int, mm: float) -> Map:
    """Gain (linear, (height, width)) of uneven coupling: soft bands, sometimes a side without contact."""
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
