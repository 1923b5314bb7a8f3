"""Paints nerves: dark fascicles in bright connective tissue."""

from __future__ import annotations

import math

import cv2
import numpy as np

from streamseg.core.types import Mask
from streamseg.phantom.model import Canvas
from streamseg.phantom.organs import repaint, rim
from streamseg.phantom.shapes import Blob, Rng, Window, as_map, noise, soft


def paint_honeycomb(rng: Rng, canvas: Canvas, blob: Blob) -> None:
    """Paint a nerve of many fascicles: dark holes in bright connective tissue with an epineurium rim."""
    window = blob.window(canvas.shape, 1.0 / canvas.mm)
    if window is None:
        return
    mm = canvas.mm
    distance, steep = blob.polar(window)
    inside = soft(distance, 2.5)
    shape = (distance.shape[0], distance.shape[1])
    bright = _bright(rng, canvas, window)
    grain = noise(rng, shape, 0.35 / mm, 0.16 / mm)
    repaint(canvas, window, inside, bright + rng.uniform(1.5, 4.0) * grain)
    rim(canvas, window, distance + 0.15 / mm, bright + rng.normal(1, 3) + 6 * (steep - 1), 0.2)
    size = rng.uniform(0.28, 0.75) / mm
    dark = rng.uniform(6, 14)
    for fascicle in _pack(rng, blob, size, fill_share=rng.uniform(0.25, 0.6)):
        spot = fascicle.window(canvas.shape)
        if spot is not None:
            hole, _ = fascicle.polar(spot)
            echo = canvas.echo_db[spot]
            echo += soft(hole, 2.5) * (bright - dark - echo)
    canvas.nerve[window] |= distance < 0


def _bright(rng: Rng, canvas: Canvas, window: Window) -> float:
    """Level of a nerve's connective tissue: a little above its surroundings, which may be bright too."""
    return min(33.0, max(19.0, float(canvas.echo_db[window].mean()) + rng.normal(10.5, 3.5)))


def _pack(rng: Rng, blob: Blob, size: float, fill_share: float) -> list[Blob]:
    """Place fascicles of about ``size`` pixels radius inside an oval, none touching another."""
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
    """Paint one to eight large dark fascicles, each with a bright rim, close together inside ``blob``."""
    mm = canvas.mm
    # A large oval is never a single fascicle: that would look like a vessel.
    large = min(blob.rx, blob.ry) > 2.2 / mm
    count = int(rng.integers(3, 9)) if large else int(rng.integers(1, 4))
    size = math.sqrt(0.62 * blob.rx * blob.ry / count) if count > 1 else 0.9 * min(blob.rx, blob.ry)
    fascicles = _pack(rng, blob, size, fill_share=0.95)[:count] if count > 1 else []
    if not fascicles:
        fascicles = [Blob.random(rng, blob.x, blob.y, blob.rx * 0.9, blob.ry * 0.9, angle=blob.angle)]
    hull = _hull(canvas.shape, fascicles, rng.uniform(0.25, 0.5) / mm)
    window = blob.grown(1.5 / mm).window(canvas.shape, 1.0 / mm)
    if window is None:
        return
    bright = _bright(rng, canvas, window)
    dark = bright - rng.uniform(9, 17)
    inside = as_map(cv2.GaussianBlur(as_map(hull[window]), (0, 0), 1.2))
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
    """Mask of the convex hull around fascicles with a margin in pixels: bool (height, width)."""
    turns = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    points = []
    for blob in fascicles:
        radii = np.array([blob.reach(turn) for turn in turns]) * 1.03 + margin
        points.append(np.stack([blob.x + radii * np.cos(turns), blob.y + radii * np.sin(turns)], axis=1))
    outline = cv2.convexHull(np.concatenate(points).astype(np.float32))
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    return mask.astype(np.bool_)
