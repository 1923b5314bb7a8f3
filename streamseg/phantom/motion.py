"""Motion between frames: the hand that holds the probe, the heartbeat, the operator's gain.

Everything is a function of time, so that any frame can be drawn without the previous ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streamseg.phantom.model import Canvas, Map, Vessel
from streamseg.phantom.shapes import Rng, as_map

GRID = 8
"""Grid of the warp in pixels; it is interpolated, since nothing in it is finer."""


def wander(seed: tuple[int, ...], t: float, hold: float = 0.0) -> float:
    """A smooth random walk around 0 (sigma 1, a new target per unit of ``t``) with random access.

    ``hold`` 0..1 is the part of each unit in which it rests.
    """
    knot = math.floor(t)
    before, after = (float(np.random.default_rng((*seed, knot + k)).normal()) for k in (0, 1))
    part = max(0.0, (t - knot - hold) / (1 - hold))
    return before + (after - before) * part * part * (3 - 2 * part)


@dataclass(frozen=True, slots=True)
class Motion:
    """The movements of one video; lengths in pixels, times in seconds."""

    seed: int
    heart_hz: float
    pulse: float
    """Relative widening of an artery in systole."""
    drift: float
    """Standard deviation of the probe's sideways drift."""
    squeeze: float
    """Standard deviation of the relative compression by the probe's pressure."""
    slide: float
    """Distance by which the probe is moved away from the nerve and back; 0 keeps it there."""
    slide_period: float
    """Seconds for moving away from the nerve and back."""
    slide_phase: float
    """Part of the period passed at time 0; 0 is at the nerve."""
    gain_db: float
    """Standard deviation of the operator's gain."""

    @classmethod
    def random(cls, rng: Rng, seed: int, mm: float, slide: float) -> Motion:
        """Movements of a careful hand."""
        return cls(
            seed=seed,
            heart_hz=rng.uniform(55, 95) / 60,
            pulse=rng.uniform(0.04, 0.10),
            drift=rng.uniform(0.3, 0.9) / mm,
            squeeze=rng.uniform(0.008, 0.02),
            slide=slide,
            slide_period=rng.uniform(8, 12),
            slide_phase=rng.uniform(-0.15, 0.15),
            gain_db=rng.uniform(0.3, 1.6),
        )

    def offset(self, t: float) -> float:
        """Shift of the view in columns since the start, without margins: drift and slide."""
        turn = 0.5 - 0.5 * math.cos(2 * math.pi * (t / self.slide_period + self.slide_phase))
        limit = 4 * self.drift
        return self.slide * turn + min(limit, max(-limit, self.drift * wander((self.seed, 11), t / 1.7)))

    def pressure(self, t: float) -> float:
        """Relative compression of the tissue at time t, within 0.06 of 0."""
        return min(0.06, max(-0.06, self.squeeze * wander((self.seed, 12), t / 2.3)))

    def systole(self, t: float) -> float:
        """The pulse wave, 0..1: a steep rise and a slow fall once per heartbeat."""
        phase = t * self.heart_hz % 1.0
        return phase / 0.16 * math.exp(1 - phase / 0.16) * (1 - phase**4)

    def gain(self, t: float) -> float:
        """Gain relative to the video's own, dB: constant, then turned within a second."""
        return self.gain_db * wander((self.seed, 13), t / 5.0, hold=0.85) + 0.25 * wander(
            (self.seed, 14), t / 1.1
        )

    def speckle_turn(self, look: int, t: float) -> float:
        """Mixing angle of a look's two scatterer fields: a quarter turn is another slice of the tissue."""
        return 0.6 * t / (1 + 0.3 * look) + 0.5 * wander((self.seed, 20 + look), t / 1.5) + look


class Warp:
    """Maps each pixel of the view to its position on the canvas."""

    def __init__(self, canvas: Canvas, height: int, width: int, margin: int) -> None:
        """``margin``: columns of the canvas left of the view at offset 0."""
        self._vessels = canvas.vessels
        self._shape = height, width
        self._margin = margin
        rows, columns = (as_map(axis) for axis in np.indices((height, width), dtype=np.float32))
        self._rows, self._columns = rows, columns + np.float32(margin)
        count = (math.ceil(height / GRID), math.ceil(width / GRID))
        # Cell centres, so that cv2.resize brings them to the pixels they stand for.
        self._grid_y = as_map((np.arange(count[0]) + 0.5) * height / count[0] - 0.5)[:, None]
        self._grid_x = as_map((np.arange(count[1]) + 0.5) * width / count[1] - 0.5)[None, :]

    def maps(self, motion: Motion, t: float) -> tuple[Map, Map, int]:
        """Columns and rows on the canvas, and the first column needed, from which the columns are counted."""
        height, width = self._shape
        shift, pressure, systole = motion.offset(t), motion.pressure(t), motion.systole(t)
        y = np.broadcast_to(self._grid_y, (len(self._grid_y), self._grid_x.shape[1]))
        x = np.broadcast_to(self._grid_x + np.float32(shift + self._margin), y.shape)
        # The skin stays at the probe; what is deeper gives way more.
        dy = y * np.float32(pressure)
        dx = np.zeros_like(dy)
        for vessel in self._vessels:
            weight = _nearness(vessel, x, y)
            if vessel.artery:
                grown = np.float32(-motion.pulse * systole) * weight
                dx = dx + grown * (x - np.float32(vessel.x))
            else:
                grown = np.float32(6 * pressure) * weight
            dy = dy + grown * (y - np.float32(vessel.y))
        dx = as_map(cv2.resize(as_map(dx), (width, height), interpolation=cv2.INTER_LINEAR))
        dy = as_map(cv2.resize(as_map(dy), (width, height), interpolation=cv2.INTER_LINEAR))
        first = max(0, math.floor(self._margin + shift) - self._margin // 2)
        return self._columns + dx + np.float32(shift - first), self._rows + dy, first


def _nearness(vessel: Vessel, x: Map, y: Map) -> Map:
    """1 inside a vessel and at its wall, fading to 0 outside."""
    distance = np.hypot(x - np.float32(vessel.x), y - np.float32(vessel.y)) / np.float32(vessel.radius)
    return as_map(np.exp(-(np.maximum(distance - 1, 0) ** 2) / np.float32(0.5)))
