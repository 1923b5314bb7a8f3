"""Paints structures in the tissue: vessels, bone, muscle, and what is easily mistaken for a nerve."""

from __future__ import annotations

import math

import numpy as np

from streamseg.phantom.model import NO_ECHO_DB, Canvas, Map, Vessel
from streamseg.phantom.shapes import Blob, Rng, Window, noise, soft, turned_noise, wave


def repaint(canvas: Canvas, window: Window, weight: Map, level: Map | float) -> None:
    """Replace the diffuse echo by ``level`` dB and remove the coherent echo, weighted by ``weight`` 0..1."""
    echo, mirror = canvas.echo_db[window], canvas.mirror_db[window]
    echo += weight * (level - echo)
    mirror += weight * (np.float32(NO_ECHO_DB) - mirror)


def rim(canvas: Canvas, window: Window, distance: Map, level: Map | float, width_mm: float) -> None:
    """Paint a bright line along an outline; ``distance`` in pixels, ``level`` the echo at its crest, dB."""
    line = level - np.float32(4.3) * (distance * np.float32(canvas.mm / width_mm)) ** 2
    np.maximum(canvas.echo_db[window], line, out=canvas.echo_db[window], casting="same_kind")


def paint_vessel(rng: Rng, canvas: Canvas, blob: Blob, *, artery: bool) -> None:
    """Paint a vessel: its wall, and blood, which hardly echoes or attenuates: what is below is brighter."""
    window = blob.window(canvas.shape, 2.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, steep = blob.polar(window)
    wall_mm = rng.uniform(0.14, 0.24) if artery else rng.uniform(0.08, 0.14)
    around = float(canvas.echo_db[window].mean())
    crest = around + (rng.normal(4, 4) if artery else rng.normal(0, 3))
    rim(canvas, window, distance - wall_mm / mm, crest + 7 * (steep - 1), wall_mm)
    # The wall reflects the beam only where it faces it.
    patchy = noise(rng, (distance.shape[0], distance.shape[1]), 1.2 / mm, 1.2 / mm)
    line = rng.normal(27, 6) - 45 * (1 - steep) + 5 * patchy - 4.3 * ((distance * mm - wall_mm) / 0.12) ** 2
    mirror = canvas.mirror_db[window]
    np.maximum(mirror, line, out=mirror, casting="same_kind")
    lumen = soft(distance, rng.uniform(1.5, 5.0))
    haze = rng.normal(4, 4) + 2 * noise(rng, (lumen.shape[0], lumen.shape[1]), 1.5 / mm, 0.8 / mm)
    repaint(canvas, window, lumen, haze)
    loss = canvas.loss[window]
    loss -= lumen * np.float32(rng.uniform(0.25, 0.75))
    # Refraction at the sides parallel to the beam casts a narrow shadow.
    side = (np.abs(distance) < 0.35 / mm) & (steep < 0.3)
    loss += side * np.float32(rng.uniform(0.2, 1.0))
    canvas.vessel[window] |= distance < 0
    canvas.vessels.append(Vessel(blob.x, blob.y, math.sqrt(blob.rx * blob.ry), artery))


def paint_bone(rng: Rng, canvas: Canvas, x: float, y: float, half: float) -> None:
    """Paint a convex bone surface at (x, y), ``half`` pixels to either side: a reflector, then shadow."""
    height, width = canvas.shape
    mm = canvas.mm
    left, right = max(0, int(x - half)), min(width, int(x + half) + 1)
    if right <= left:
        return
    columns = np.arange(left, right, dtype=np.float32)
    across = (columns - np.float32(x)) / np.float32(half)
    bulge = rng.uniform(0.1, 0.6) * half
    crest = y + bulge * across**2 + wave(rng, columns * np.float32(mm), 0.25, 6.0) / np.float32(mm)
    below = np.arange(height, dtype=np.float32)[:, None] - crest
    slope = np.abs(np.gradient(crest))
    part = (slice(None), slice(left, right))
    thickness = rng.uniform(0.12, 0.3)
    line = rng.normal(46, 3) - np.minimum(14 * slope, 16) - 4.3 * (below * np.float32(mm / thickness)) ** 2
    fade = 12 * np.clip(np.abs(across) * 4 - 3, 0, 1)
    canvas.mirror_db[part] = np.maximum(canvas.mirror_db[part] * 1.0, line - fade)
    canvas.echo_db[part] = np.maximum(canvas.echo_db[part], line - fade - 10)
    canvas.loss[part] += (below > 1.5 * thickness / mm) * np.float32(rng.uniform(2.5, 9.0))


def paint_lymph_node(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """Paint a lymph node: a bean of dark smooth cortex around one bright hilum."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    distance, steep = blob.polar(window)
    repaint(canvas, window, soft(distance, 2.0), rng.normal(7, 2))
    rim(canvas, window, distance, rng.normal(19, 3) + 6 * (steep - 1), 0.18)
    hilum = Blob.random(rng, blob.x, blob.y + 0.1 * blob.ry, 0.5 * blob.rx, 0.35 * blob.ry, angle=blob.angle)
    spot = hilum.window(canvas.shape)
    if spot is not None:
        core, _ = hilum.polar(spot)
        echo = canvas.echo_db[spot]
        echo += soft(core, 6.0) * (np.float32(rng.normal(23, 3)) - echo)


def paint_tendon(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """Paint a tendon: a bright oval of fine fibrils without dark fascicles."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, _ = blob.polar(window)
    fibrils = turned_noise(rng, (distance.shape[0], distance.shape[1]), 0.7 / mm, 0.09 / mm, blob.angle)
    repaint(canvas, window, soft(distance, 2.5), rng.normal(25, 3) + 2.5 * fibrils)


def paint_lobule(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """Paint a lobule of fat: even grey with a thin bright septum."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, steep = blob.polar(window)
    texture = noise(rng, (distance.shape[0], distance.shape[1]), 0.9 / mm, 0.3 / mm)
    repaint(canvas, window, soft(distance, 3.0), rng.normal(14, 3) + 2.5 * texture)
    rim(canvas, window, distance, rng.normal(25, 3) + 9 * (steep - 1), 0.14)


def paint_belly(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """Paint a muscle belly: darker, striated along its own axis, with a bright sheath."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    distance, steep = blob.polar(window)
    inside = soft(distance, rng.uniform(3, 14))
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
    broken = noise(rng, shape, rng.uniform(1.5, 4.0) / mm, rng.uniform(1.0, 3.0) / mm)
    sheath = (
        rng.choice([25, 12])
        + rng.normal(0, 4)
        + 16 * (steep - 1)
        + 10 * broken
        - (distance * mm / 0.09) ** 2 * 4.3
    )
    np.maximum(mirror, sheath, out=mirror, casting="same_kind")
    np.maximum(echo, np.minimum(sheath - 14, 18), out=echo, casting="same_kind")
