"""Paints the layered background: skin, fat and muscle with their fascia, first flat, then bent."""

from __future__ import annotations

import numpy as np

from streamseg.phantom.model import NO_ECHO_DB, Canvas, Map
from streamseg.phantom.shapes import Rng, as_map, noise, sample, wave


def paint_layers(rng: Rng, canvas: Canvas) -> None:
    """Paint skin, fat and one to four muscle layers over the whole canvas."""
    skin = rng.uniform(0.8, 2.2)
    fat = skin + rng.uniform(1.5, 8.0)
    bounds = [skin, fat]
    while bounds[-1] < 0.75 * canvas.depth_mm and len(bounds) < 6:
        bounds.append(bounds[-1] + rng.uniform(3.5, 16.0))
    echo, mirror = _flat(rng, canvas, bounds)
    bend = _bend(rng, canvas, bounds)
    rows, columns = (as_map(axis) for axis in np.indices(canvas.shape, dtype=np.float32))
    steepness = np.abs(np.gradient(bend, axis=1))
    canvas.echo_db = sample(echo, columns, rows - bend)
    # A reflector that does not face the beam reflects elsewhere.
    canvas.mirror_db = sample(mirror, columns, rows - bend) - as_map(np.minimum(30 * steepness, 14))


def _flat(rng: Rng, canvas: Canvas, bounds: list[float]) -> tuple[Map, Map]:
    """Diffuse and coherent echo level of the layers before they are bent, dB."""
    height, width = canvas.shape
    mm = canvas.mm
    row_mm = np.arange(height, dtype=np.float32) * np.float32(mm)
    layer = np.searchsorted(np.asarray(bounds, np.float32), row_mm)
    muscles = len(bounds) - 1
    base = np.concatenate(([rng.normal(24, 2.5), rng.normal(15, 3)], rng.normal(11.5, 3.5, muscles)))
    # Striation of each layer: fat has few long septa, muscle many short streaks.
    streak = np.concatenate(([1.5, rng.uniform(2, 5)], rng.uniform(2.5, 6.5, muscles)))
    density = np.concatenate(([3.0, rng.uniform(2.1, 2.8)], rng.uniform(1.5, 2.7, muscles)))
    fine = noise(rng, (height, width), rng.uniform(0.8, 1.7) / mm, rng.uniform(0.09, 0.14) / mm)
    long = noise(rng, (height, width), rng.uniform(2.0, 4.5) / mm, rng.uniform(0.09, 0.16) / mm)
    cloud = 0.8 * noise(rng, (height, width), 4.0 / mm, 1.8 / mm)
    cloud += 0.6 * noise(rng, (height, width), 1.3 / mm, 0.7 / mm)
    pick = layer[:, None]
    strands = np.where(pick <= 1, long, 0.75 * fine + 0.66 * long)
    level = (
        base.astype(np.float32)[pick]
        + streak.astype(np.float32)[pick] * strands * 0.8
        + rng.uniform(2, 5) * cloud
    )
    # Only the peaks of the texture are interfaces that face the beam; clouds gather them.
    peak = strands + 0.45 * cloud - density.astype(np.float32)[pick]
    mirror = np.where(peak > -0.4, 30 + 9 * np.minimum(peak, 1.4), NO_ECHO_DB).astype(np.float32)
    for bound in bounds[1:]:
        _fascia(rng, mirror, level, bound / mm, mm)
    _skin_line(rng, mirror, mm)
    return np.asarray(level, np.float32), mirror


def _fascia(rng: Rng, mirror: Map, level: Map, row: float, mm: float) -> None:
    """Paint one bright sheet, sometimes doubled or tripled, whose strength varies along its length."""
    height, width = mirror.shape
    for k in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
        centre = row + k * rng.uniform(0.5, 1.2) / mm
        thickness = rng.uniform(0.05, 0.13) / mm
        top, bottom = max(0, int(centre - 5 * thickness)), min(height, int(centre + 5 * thickness) + 2)
        if bottom <= top:
            continue
        strength = rng.normal(41, 4) - 4 * k + 8 * noise(rng, (1, width), rng.uniform(2, 6) / mm, 1.0)
        away = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(centre)) / np.float32(
            thickness
        )
        line = strength - np.float32(4.3) * away**2
        mirror[top:bottom] = np.maximum(mirror[top:bottom], line)
        level[top:bottom] = np.maximum(level[top:bottom], strength - 15 - np.float32(0.6) * away**2)


def _skin_line(rng: Rng, mirror: Map, mm: float) -> None:
    """Paint the echo of the probe's own face into the first rows."""
    rows = max(1, round(rng.uniform(0.1, 0.35) / mm))
    mirror[:rows] = rng.uniform(34, 46)


def _bend(rng: Rng, canvas: Canvas, bounds: list[float]) -> Map:
    """Downward shift of each pixel's layer in pixels; every boundary waves on its own."""
    height, width = canvas.shape
    x_mm = np.arange(width, dtype=np.float32) * np.float32(canvas.mm)
    tilt = (x_mm - x_mm.mean()) * np.float32(rng.normal(0, 0.06))
    knots = [0.0, *bounds]
    curves = [np.zeros(width, np.float32)]
    for k, bound in enumerate(bounds):
        amplitude = rng.uniform(0.05, 0.16) if k == 0 else rng.uniform(0.2, 1.0) * min(1.4, 0.08 * bound)
        share = min(1.0, bound / (0.5 * canvas.depth_mm))
        curves.append(0.5 * curves[-1] + wave(rng, x_mm, amplitude, rng.uniform(18, 45)) + share * tilt)
    row_mm = np.arange(height) * canvas.mm
    weights = np.stack([np.interp(row_mm, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
    # Not a matrix product: BLAS would start threads, which costs more than it saves.
    return as_map(np.einsum("rk,kc->rc", as_map(weights), np.stack(curves)) / np.float32(canvas.mm))


def paint_sheets(rng: Rng, canvas: Canvas) -> None:
    """Paint septa and fascia of finite length, most of them shallow, each with its own slope."""
    height, width = canvas.shape
    mm = canvas.mm
    for _ in range(int(rng.poisson(rng.uniform(3, 16) * width / (1.4 * height)))):
        length = min(1.2 * width, rng.lognormal(2.2, 0.6) / mm)
        left = rng.uniform(-0.5 * length, width - 0.5 * length)
        columns = np.arange(max(0, int(left)), min(width, int(left + length)))
        if len(columns) < 4:
            continue
        along = ((columns - left) / length).astype(np.float32)
        x_mm = columns.astype(np.float32) * np.float32(mm)
        row = height * rng.beta(1.5, 2.5) + rng.normal(0, 0.13) * (columns - left - length / 2)
        row = row + wave(rng, x_mm, 0.3, 14.0) / mm
        thickness = rng.uniform(0.04, 0.12) / mm
        strength = rng.normal(37, 5) - 22 * np.abs(2 * along - 1) ** rng.uniform(1.5, 4)
        strength = strength + 5 * noise(rng, (1, len(columns)), rng.uniform(0.8, 3) / mm, 1.0)[0]
        offsets = np.arange(-4, 5)[:, None]
        rows = np.round(row).astype(np.int64)[None, :] + offsets
        away = (rows - row) / thickness
        line = strength - 4.3 * away**2
        glow = strength - 15 - 0.5 * away**2
        ok = (rows >= 0) & (rows < height)
        at = (rows[ok], np.broadcast_to(columns, rows.shape)[ok])
        canvas.mirror_db[at] = np.maximum(canvas.mirror_db[at], line[ok])
        canvas.echo_db[at] = np.maximum(canvas.echo_db[at], glow[ok])
