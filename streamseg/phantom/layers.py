"""Skin, fat and muscle with their fascia: the layered background, painted flat and then bent."""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.phantom.model import NO_ECHO_DB, Canvas, Map
from streamseg.phantom.shapes import Blob, Rng, noise, soft, wave


def paint_layers(rng: Rng, canvas: Canvas) -> None:
    """Paint skin, fat and one to four muscle layers over the whole canvas."""
    skin = rng.uniform(0.8, 2.2)
    fat = skin + rng.uniform(1.5, 8.0)
    bounds = [skin, fat]
    while bounds[-1] < 0.75 * canvas.depth_mm and len(bounds) < 6:
        bounds.append(bounds[-1] + rng.uniform(3.5, 16.0))
    echo, mirror = _flat(rng, canvas, bounds)
    bend = _bend(rng, canvas, bounds)
    rows, columns = np.indices(canvas.shape, dtype=np.float32)
    steepness = np.abs(np.gradient(bend, axis=1))
    flags = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    canvas.echo_db = np.asarray(cv2.remap(echo, columns, rows - bend, **flags), np.float32)
    canvas.mirror_db = np.asarray(cv2.remap(mirror, columns, rows - bend, **flags), np.float32)
    # A mirror that does not face the beam reflects elsewhere.
    canvas.mirror_db -= np.minimum(30 * steepness, 14).astype(np.float32)


def _flat(rng: Rng, canvas: Canvas, bounds: list[float]) -> tuple[Map, Map]:
    """Echo and mirror level of the layers before they are bent, dB."""
    height, width = canvas.shape
    mm = canvas.mm
    row_mm = np.arange(height, dtype=np.float32) * np.float32(mm)
    layer = np.searchsorted(np.asarray(bounds, np.float32), row_mm)
    muscles = len(bounds) - 1
    base = np.concatenate(([rng.normal(24, 2.5), rng.normal(15, 3)], rng.normal(11.5, 3.5, muscles)))
    # How striated each layer is: fat has few, long septa; muscle has many short streaks.
    streak = np.concatenate(([1.5, rng.uniform(2, 5)], rng.uniform(2.5, 6.5, muscles)))
    density = np.concatenate(([3.0, rng.uniform(2.1, 2.8)], rng.uniform(1.5, 2.7, muscles)))
    fine = noise(rng, (height, width), rng.uniform(0.8, 1.7) / mm, rng.uniform(0.09, 0.14) / mm)
    long = noise(rng, (height, width), rng.uniform(2.0, 4.5) / mm, rng.uniform(0.09, 0.16) / mm)
    cloud = noise(rng, (height, width), 4.0 / mm, 2.0 / mm)
    pick = layer[:, None]
    strands = np.where(pick <= 1, long, 0.75 * fine + 0.66 * long)
    level = base.astype(np.float32)[pick] + streak.astype(np.float32)[pick] * strands * 0.8 + 2.2 * cloud
    # Only the peaks of the texture are interfaces that face the beam; clouds gather them.
    peak = strands + 0.45 * cloud - density.astype(np.float32)[pick]
    mirror = np.where(peak > -0.4, 30 + 9 * np.minimum(peak, 1.4), NO_ECHO_DB).astype(np.float32)
    for bound in bounds[1:]:
        _fascia(rng, mirror, level, bound / mm, mm)
    _skin_line(rng, mirror, mm)
    return np.asarray(level, np.float32), mirror


def _fascia(rng: Rng, mirror: Map, level: Map, row: float, mm: float) -> None:
    """One bright sheet, at times doubled, whose strength varies along its length."""
    height, width = mirror.shape
    for k in range(int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))):
        centre = row + k * rng.uniform(0.5, 1.2) / mm
        thickness = rng.uniform(0.10, 0.22) / mm
        top, bottom = max(0, int(centre - 4 * thickness)), min(height, int(centre + 4 * thickness) + 2)
        if bottom <= top:
            continue
        strength = rng.normal(43, 3.5) - 4 * k + 6 * noise(rng, (1, width), rng.uniform(3, 8) / mm, 1.0)
        away = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(centre)) / np.float32(
            thickness
        )
        line = strength - np.float32(4.3) * away**2
        mirror[top:bottom] = np.maximum(mirror[top:bottom], line)
        level[top:bottom] = np.maximum(level[top:bottom], line - 14)


def _skin_line(rng: Rng, mirror: Map, mm: float) -> None:
    """The echo of the probe's own face, on the first rows."""
    rows = max(1, round(rng.uniform(0.1, 0.35) / mm))
    mirror[:rows] = rng.uniform(34, 46)


def _bend(rng: Rng, canvas: Canvas, bounds: list[float]) -> Map:
    """How far each pixel's layer lies below its flat place, pixels: every boundary waves on its own."""
    height, width = canvas.shape
    x_mm = np.arange(width, dtype=np.float32) * np.float32(canvas.mm)
    tilt = (x_mm - x_mm.mean()) * np.float32(rng.normal(0, 0.06))
    knots = [0.0, *bounds]
    curves = [np.zeros(width, np.float32)]
    for k, bound in enumerate(bounds):
        amplitude = rng.uniform(0.05, 0.16) if k == 0 else rng.uniform(0.2, 1.0) * min(1.6, 0.08 * bound)
        share = min(1.0, bound / (0.5 * canvas.depth_mm))
        curves.append(0.5 * curves[-1] + wave(rng, x_mm, amplitude, rng.uniform(14, 30)) + share * tilt)
    row_mm = np.arange(height) * canvas.mm
    weights = np.stack([np.interp(row_mm, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
    return np.asarray(weights.astype(np.float32) @ np.stack(curves) / np.float32(canvas.mm), np.float32)


def paint_belly(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """A muscle belly: darker, striated along its own axis, in a bright sheath."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    distance, steep = blob.polar(window)
    inside = soft(distance, 3.0)
    mm = canvas.mm
    shape = (distance.shape[0], distance.shape[1])
    strands = turned_noise(
        rng, shape, rng.uniform(0.8, 2.0) / mm, 0.12 / mm, blob.angle + rng.normal(0, 0.15)
    )
    level = rng.normal(8.5, 2.5) + rng.uniform(1.5, 5.0) * strands
    echo = canvas.echo_db[window]
    echo += inside * (level - echo)
    mirror = canvas.mirror_db[window]
    streaks = np.where(strands > rng.uniform(1.8, 2.6), 31 + 4 * strands, NO_ECHO_DB)
    mirror += inside * (streaks - mirror)
    sheath = rng.normal(33, 5) + 8 * (steep - 1) - (distance * mm / 0.16) ** 2 * 4.3
    np.maximum(mirror, sheath, out=mirror, casting="same_kind")
    np.maximum(echo, np.minimum(sheath - 14, 20), out=echo, casting="same_kind")


def turned_noise(rng: Rng, shape: tuple[int, int], along: float, across: float, angle: float) -> Map:
    """Unit-variance strands of length ``along`` at ``angle`` radians (x right, y down)."""
    side = int(np.hypot(*shape)) + 4
    field = noise(rng, (side, side), along, across)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(-np.degrees(angle)), 1.0)
    turn[:, 2] -= ((side - shape[1]) / 2, (side - shape[0]) / 2)
    return np.asarray(cv2.warpAffine(field, turn, (shape[1], shape[0]), flags=cv2.INTER_LINEAR), np.float32)
