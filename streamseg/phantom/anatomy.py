"""Composes a random region: vessels, muscle bellies, bone, and a nerve or something that resembles one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamseg.phantom.layers import paint_layers, paint_sheets
from streamseg.phantom.model import Canvas
from streamseg.phantom.nerves import paint_cluster, paint_honeycomb
from streamseg.phantom.organs import (
    paint_belly,
    paint_bone,
    paint_lobule,
    paint_lymph_node,
    paint_tendon,
    paint_vessel,
)
from streamseg.phantom.shapes import Blob, Rng, as_map, noise, sample

Painter = Callable[[Rng, Canvas, Blob], None]
LOOKALIKES: tuple[Painter, ...] = (paint_lymph_node, paint_tendon, paint_lobule, paint_belly)


@dataclass(frozen=True, slots=True)
class Place:
    """Where nerves are placed, pixels: around (x, y), with their centres between columns left and right."""

    x: float
    y: float
    left: float
    right: float


def build(rng: Rng, height: int, width: int, mm: float, *, nerve: bool, centre: float, span: float) -> Canvas:
    """Paint a region of ``height`` x ``width`` pixels of ``mm`` millimetres.

    The nerve and its surroundings are placed within ``span`` pixels around the column ``centre``. Without
    ``nerve`` the same surroundings are painted, often with something that resembles a nerve.
    """
    canvas = Canvas.empty(height, width, mm)
    paint_layers(rng, canvas)
    _bellies(rng, canvas)
    paint_sheets(rng, canvas)
    anchor_x = centre + span * rng.uniform(-0.32, 0.32)
    anchor_y = height * min(0.66, max(0.16, rng.normal(0.36, 0.12)))
    reach = min(0.45 * span, abs(anchor_x - centre) + 16 / mm)
    place = Place(anchor_x, anchor_y, centre - reach, centre + reach)
    taken: list[Blob] = []
    if rng.random() < 0.35:
        bone_y = min(0.92 * height, anchor_y + rng.uniform(5, 14) / mm)
        paint_bone(rng, canvas, anchor_x + rng.normal(0, 8) / mm, bone_y, rng.uniform(5, 16) / mm)
    if rng.random() < 0.85:
        brighten(rng, canvas, anchor_x, anchor_y)
    _vessels(rng, canvas, taken, anchor_x, anchor_y)
    count = int(rng.choice([1, 2, 3, 4], p=[0.66, 0.22, 0.08, 0.04]))
    style = rng.random()
    for _ in range(count):
        blob = _beside(rng, canvas, taken, place, _nerve_size(rng, mm, count))
        if blob is None:
            continue
        if nerve:
            (paint_honeycomb if style < 0.6 else paint_cluster)(rng, canvas, blob)
        elif rng.random() < 0.6:
            LOOKALIKES[int(rng.integers(len(LOOKALIKES)))](rng, canvas, blob)
        taken.append(blob)
    if nerve and not canvas.nerve.any():
        blob = Blob.random(rng, anchor_x, anchor_y, 3.4 / mm, 2.4 / mm)
        paint_honeycomb(rng, canvas, blob)
        taken.append(blob)
    _strays(rng, canvas, taken)
    canvas.loss += 0.25 * noise(rng, canvas.shape, 4 / mm, 4 / mm)
    crumple(rng, canvas)
    canvas.vessel &= ~canvas.nerve
    return canvas


def _bellies(rng: Rng, canvas: Canvas) -> None:
    """Paint muscle bellies of any size below the fat."""
    height, width = canvas.shape
    for _ in range(int(rng.integers(0, 4 + width // height))):
        rx = rng.uniform(4, 15) / canvas.mm
        ry = rx * rng.uniform(0.3, 0.7)
        x, y = rng.uniform(0, width), height * rng.uniform(0.2, 0.9)
        paint_belly(rng, canvas, Blob.random(rng, x, y, rx, ry, angle=rng.normal(0, 0.3), wobble=0.08))


def _vessels(rng: Rng, canvas: Canvas, taken: list[Blob], x: float, y: float) -> None:
    """Paint zero to three vessels near a place; arteries are round, veins flat."""
    mm = canvas.mm
    for k in range(int(rng.choice([0, 1, 2, 3], p=[0.15, 0.45, 0.28, 0.12]))):
        artery = k == 0 or rng.random() < 0.4
        rx = min(8.5, max(0.9, rng.lognormal(1.05, 0.5))) / mm
        ry = rx * (rng.uniform(0.82, 1.0) if artery else rng.uniform(0.35, 0.85))
        for _ in range(8):
            at_x, at_y = x + rng.normal(0, 7) / mm, y + rng.normal(1.5, 4) / mm
            blob = Blob.random(
                rng, at_x, max(at_y, ry + 3 / mm), rx, ry, angle=rng.normal(0, 0.35), wobble=0.04
            )
            if not any(blob.overlaps(other, 0.4 / mm) for other in taken):
                paint_vessel(rng, canvas, blob, artery=artery)
                taken.append(blob)
                break


def _nerve_size(rng: Rng, mm: float, count: int) -> tuple[float, float]:
    """Half axes in pixels: a nerve or part of a plexus is usually 3 to 10 mm wide and flatter than wide."""
    radius = min(6.0, max(1.1, rng.lognormal(1.45 if count == 1 else 1.0, 0.42)))
    aspect = min(3.0, max(1.0, rng.lognormal(0.45, 0.28)))
    return radius * math.sqrt(aspect) / mm, radius / math.sqrt(aspect) / mm


def _beside(
    rng: Rng, canvas: Canvas, taken: list[Blob], place: Place, size: tuple[float, float]
) -> Blob | None:
    """Find room for an oval: beside something painted before, or at ``place``. None if there is no room."""
    x, y = place.x, place.y
    left, right = place.left, place.right
    mm, (height, _) = canvas.mm, canvas.shape
    for _ in range(24):
        angle = rng.normal(0, 0.3)
        if taken and rng.random() < 0.75:
            other = taken[int(rng.integers(len(taken)))]
            way = rng.uniform(-math.pi, math.pi)
            trial = Blob(0, 0, *size, angle)
            away = other.reach(way) + trial.reach(way) + rng.uniform(0.3, 1.5) / mm
            at_x, at_y = other.x + away * math.cos(way), other.y + away * math.sin(way)
        else:
            at_x, at_y = x + rng.normal(0, 4) / mm, y + rng.normal(0, 3) / mm
        blob = Blob.random(rng, at_x, at_y, *size, angle=angle)
        inside = size[1] + 2.5 / mm < at_y < 0.72 * height and left < at_x < right
        if inside and not any(blob.overlaps(other, 0.1 / mm) for other in taken):
            return blob
    return None


def _strays(rng: Rng, canvas: Canvas, taken: list[Blob]) -> None:
    """Paint look-alikes and small vessels elsewhere, so that standing out does not mean being a nerve."""
    height, width = canvas.shape
    mm = canvas.mm
    for _ in range(int(rng.poisson(1.1 * width / (1.4 * height)))):
        rx = rng.uniform(1.0, 4.0) / mm
        x, y = rng.uniform(0, width), rng.uniform(0.15, 0.75) * height
        blob = Blob.random(rng, x, y, rx, rx * rng.uniform(0.4, 0.9), angle=rng.normal(0, 0.3))
        if any(blob.overlaps(other, 0.6 / mm) for other in taken):
            continue
        if rng.random() < 0.3:
            paint_vessel(rng, canvas, blob, artery=bool(rng.random() < 0.5))
        else:
            LOOKALIKES[int(rng.integers(len(LOOKALIKES)))](rng, canvas, blob)
        taken.append(blob)


def brighten(rng: Rng, canvas: Canvas, x: float, y: float) -> None:
    """Add connective tissue around a pixel: brighter, fading into its surroundings."""
    height, width = canvas.shape
    wide, high = rng.uniform(6, 18) / canvas.mm, rng.uniform(3, 7) / canvas.mm
    across = np.exp(-0.5 * ((np.arange(width, dtype=np.float32) - np.float32(x)) / np.float32(wide)) ** 2)
    down = np.exp(-0.5 * ((np.arange(height, dtype=np.float32) - np.float32(y)) / np.float32(high)) ** 2)
    patch = noise(rng, (height, width), 1.2 / canvas.mm, 0.5 / canvas.mm)
    canvas.echo_db += (down[:, None] * across) * (np.float32(rng.uniform(4, 12)) + 2.0 * patch)


def crumple(rng: Rng, canvas: Canvas) -> None:
    """Deform everything by fractions of a millimetre: nothing in a body is an exact oval."""
    mm = canvas.mm
    # The skin lies flat against the probe.
    free = np.minimum(np.arange(canvas.shape[0], dtype=np.float32) * np.float32(mm / 3), 1)[:, None]
    rows, columns = (
        as_map(axis)
        + free * np.float32(rng.uniform(0.1, 0.3) / mm) * noise(rng, canvas.shape, 1.6 / mm, 1.1 / mm)
        + free * np.float32(rng.uniform(0.15, 0.5) / mm) * noise(rng, canvas.shape, 5 / mm, 3.5 / mm)
        for axis in np.indices(canvas.shape, dtype=np.float32)
    )
    canvas.echo_db = sample(canvas.echo_db, columns, rows)
    canvas.mirror_db = sample(canvas.mirror_db, columns, rows)
    canvas.loss = sample(canvas.loss, columns, rows)
    canvas.nerve = sample(canvas.nerve, columns, rows) > 0.5
    canvas.vessel = sample(canvas.vessel, columns, rows) > 0.5
