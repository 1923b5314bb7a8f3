"""Things in the tissue: vessels, nerves, bone, and what is easily taken for a nerve."""

from __future__ import annotations

import math

import cv2
import numpy as np

from streamseg.phantom.layers import turned_noise
from streamseg.phantom.model import NO_ECHO_DB, Canvas, Map
from streamseg.phantom.shapes import Blob, Rng, Window, fill, noise, soft, wave
from streamseg.types import Mask


def repaint(canvas: Canvas, window: Window, weight: Map, level: Map | float) -> None:
    """Replace the diffuse echo by ``level`` dB and remove the coherent one, where ``weight`` is 1."""
    echo, mirror = canvas.echo_db[window], canvas.mirror_db[window]
    echo += weight * (level - echo)
    mirror += weight * (np.float32(NO_ECHO_DB) - mirror)


def rim(canvas: Canvas, window: Window, distance: Map, level: Map | float, width_mm: float) -> None:
    """A bright line along an outline; ``distance`` in pixels, ``level`` the diffuse echo at its crest, dB."""
    line = level - np.float32(4.3) * (distance * np.float32(canvas.mm / width_mm)) ** 2
    np.maximum(canvas.echo_db[window], line, out=canvas.echo_db[window], casting="same_kind")


def paint_vessel(rng: Rng, canvas: Canvas, blob: Blob, *, artery: bool) -> None:
    """Blood (almost no echo, hardly any attenuation, so that what lies below is brighter) and its wall."""
    window = blob.window(canvas.shape, 2.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, steep = blob.polar(window)
    wall_mm = rng.uniform(0.14, 0.24) if artery else rng.uniform(0.08, 0.14)
    repaint(canvas, window, soft(distance - 1.5 * wall_mm / mm, 2.5), 12.0)
    crest = rng.normal(24, 3) if artery else rng.normal(18, 3)
    rim(canvas, window, distance - wall_mm / mm, crest + 7 * (steep - 1), wall_mm)
    # The wall mirrors the beam only where it faces it.
    line = rng.normal(36, 4) - 26 * (1 - steep) - 4.3 * ((distance * mm - wall_mm) / 0.12) ** 2
    mirror = canvas.mirror_db[window]
    np.maximum(mirror, line, out=mirror, casting="same_kind")
    lumen = soft(distance, 1.5)
    haze = rng.normal(1.5, 3.5) + 2 * noise(rng, (lumen.shape[0], lumen.shape[1]), 1.5 / mm, 0.8 / mm)
    repaint(canvas, window, lumen, haze)
    loss = canvas.loss[window]
    loss -= lumen * np.float32(rng.uniform(0.25, 0.75))
    # Refraction at the sides that run along the beam casts a narrow shadow.
    side = (np.abs(distance) < 0.35 / mm) & (steep < 0.3)
    loss += side * np.float32(rng.uniform(0.5, 3.0))
    fill(canvas.vessel, blob)


def paint_bone(rng: Rng, canvas: Canvas, x: float, y: float, half: float) -> None:
    """A convex bone edge at pixel (x, y), ``half`` pixels to either side: a mirror, then shadow."""
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
    thickness = rng.uniform(0.2, 0.4)
    line = rng.normal(46, 3) - np.minimum(14 * slope, 16) - 4.3 * (below * np.float32(mm / thickness)) ** 2
    fade = 12 * np.clip(np.abs(across) * 4 - 3, 0, 1)
    canvas.mirror_db[part] = np.maximum(canvas.mirror_db[part] * 1.0, line - fade)
    canvas.echo_db[part] = np.maximum(canvas.echo_db[part], line - fade - 10)
    canvas.loss[part] += (below > 1.5 * thickness / mm) * np.float32(rng.uniform(2.5, 9.0))


def paint_honeycomb(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """A nerve of many fascicles: bright connective tissue with small dark holes, in an epineurium rim."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, steep = blob.polar(window)
    inside = soft(distance, 2.5)
    shape = (distance.shape[0], distance.shape[1])
    bright = rng.normal(23, 3.5)
    grain = noise(rng, shape, 0.35 / mm, 0.16 / mm)
    repaint(canvas, window, inside, bright + rng.uniform(1.5, 4.0) * grain)
    rim(canvas, window, distance + 0.15 / mm, bright + rng.uniform(0, 6) + 5 * (steep - 1), 0.2)
    size = rng.uniform(0.28, 0.75) / mm
    dark = rng.uniform(7, 16)
    for fascicle in _pack(rng, blob, size, fill_share=rng.uniform(0.25, 0.6)):
        spot = fascicle.window(canvas.shape)
        if spot is not None:
            hole, _ = fascicle.polar(spot)
            echo = canvas.echo_db[spot]
            echo += soft(hole, 2.5) * (bright - dark - echo)
    fill(canvas.nerve, blob)


def _pack(rng: Rng, blob: Blob, size: float, fill_share: float) -> list[Blob]:
    """Fascicles of about ``size`` pixels radius inside an oval, none touching another."""
    wanted = max(1, int(fill_share * blob.rx * blob.ry / size**2))
    placed: list[Blob] = []
    for _ in range(6 * wanted):
        radius = size * rng.uniform(0.6, 1.3)
        room_x, room_y = blob.rx - 1.25 * radius, blob.ry - 1.25 * radius
        if room_x <= 0 or room_y <= 0:
            continue
        turn, out = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 1)) * 0.94
        u, v = room_x * out * math.cos(turn), room_y * out * math.sin(turn)
        cosine, sine = math.cos(blob.angle), math.sin(blob.angle)
        x, y = blob.x + u * cosine - v * sine, blob.y + u * sine + v * cosine
        if all(math.hypot(x - p.x, y - p.y) > radius + p.rx + 0.3 * size for p in placed):
            flat = rng.uniform(0.7, 1.0)
            placed.append(Blob(x, y, radius, radius * flat, rng.uniform(-0.5, 0.5)))
        if len(placed) >= wanted:
            break
    return placed


def paint_cluster(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """One to eight large dark fascicles, each in a bright rim, lying together inside ``blob``."""
    mm = canvas.mm
    count = int(rng.integers(1, 9)) if min(blob.rx, blob.ry) > 2.2 / mm else int(rng.integers(1, 4))
    size = math.sqrt(0.62 * blob.rx * blob.ry / count) if count > 1 else 0.9 * min(blob.rx, blob.ry)
    fascicles = _pack(rng, blob, size, fill_share=0.95)[:count] if count > 1 else []
    if not fascicles:
        fascicles = [Blob.random(rng, blob.x, blob.y, blob.rx * 0.9, blob.ry * 0.9, angle=blob.angle)]
    hull = _hull(canvas.shape, fascicles, rng.uniform(0.25, 0.5) / mm)
    bright, dark = rng.normal(24, 3.5), rng.normal(8, 3)
    window = blob.grown(1.5 / mm).window(canvas.shape, 1.0 / mm)
    if window is None:
        return
    inside = cv2.GaussianBlur(hull[window].astype(np.float32), (0, 0), 1.2)
    shape = (inside.shape[0], inside.shape[1])
    repaint(canvas, window, inside, bright - 4 + 2.5 * noise(rng, shape, 0.5 / mm, 0.2 / mm))
    for fascicle in fascicles:
        spot = fascicle.window(canvas.shape, 1.0 / mm)
        if spot is None:
            continue
        distance, steep = fascicle.polar(spot)
        rim(canvas, spot, distance - 0.12 / mm, bright + 5 * (steep - 1), 0.2)
        echo = canvas.echo_db[spot]
        speckled = dark + 2.0 * noise(rng, (distance.shape[0], distance.shape[1]), 0.3 / mm, 0.15 / mm)
        echo += soft(distance, 2.0) * (speckled - echo)
    canvas.nerve |= hull


def _hull(shape: tuple[int, int], fascicles: list[Blob], margin: float) -> Mask:
    """The convex outline around fascicles, ``margin`` pixels away from them: bool (height, width)."""
    turns = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    points = []
    for blob in fascicles:
        radii = np.array([blob.reach(turn) for turn in turns]) * 1.03 + margin
        points.append(np.stack([blob.x + radii * np.cos(turns), blob.y + radii * np.sin(turns)], axis=1))
    outline = cv2.convexHull(np.concatenate(points).astype(np.float32))
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    return mask.astype(np.bool_)


def paint_lymph_node(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """Dark smooth cortex around one bright hilum: a bean, not a nerve."""
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
    """A bright oval of fine fibrils without dark fascicles."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, _ = blob.polar(window)
    fibrils = turned_noise(rng, (distance.shape[0], distance.shape[1]), 0.7 / mm, 0.09 / mm, blob.angle)
    repaint(canvas, window, soft(distance, 2.5), rng.normal(25, 3) + 2.5 * fibrils)


def paint_lobule(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """A lobule of fat: even grey, in a thin bright septum."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, steep = blob.polar(window)
    texture = noise(rng, (distance.shape[0], distance.shape[1]), 0.9 / mm, 0.3 / mm)
    repaint(canvas, window, soft(distance, 3.0), rng.normal(14, 3) + 2.5 * texture)
    rim(canvas, window, distance, rng.normal(25, 3) + 9 * (steep - 1), 0.14)
