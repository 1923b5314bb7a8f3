"""Shapes and textures: irregular ovals, wavy lines, anisotropic noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.phantom.model import Map

Rng = np.random.Generator
Window = tuple[slice, slice]


def wave(rng: Rng, positions: Map, amplitude: float, length: float) -> Map:
    """A smooth random curve: sines of ``length`` to four times ``length``, standard deviation ``amplitude``.

    ``positions`` (n,) and ``length`` share a unit; the result (n,) has the unit of ``amplitude``.
    """
    total = np.zeros_like(positions)
    for octave in (1.0, 1.6, 2.5, 4.0):
        phase = rng.uniform(0, 2 * math.pi)
        total += (
            math.sqrt(octave)
            * rng.normal(0, 1)
            * np.sin(positions * (2 * math.pi / (length * octave)) + phase)
        )
    return (total * (amplitude / 2.1)).astype(np.float32)


def noise(rng: Rng, shape: tuple[int, int], across: float, down: float) -> Map:
    """Unit-variance Gaussian noise, smoothed over about ``across`` columns and ``down`` rows (sigmas).

    Drawn on a coarse grid and enlarged, so that long textures cost no more than short ones.
    """
    step_x, step_y = max(1.0, across / 1.5), max(1.0, down / 1.5)
    coarse = (math.ceil(shape[0] / step_y) + 4, math.ceil(shape[1] / step_x) + 4)
    field = rng.standard_normal(coarse, dtype=np.float32)
    sigma_x, sigma_y = max(0.3, across / step_x), max(0.3, down / step_y)
    field = as_map(cv2.GaussianBlur(field, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y))
    matrix = np.array([[1 / step_x, 0, 2], [0, 1 / step_y, 2]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(
        field, matrix, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    deviation = float(field.std())
    return np.asarray(large / max(deviation, 1e-6), np.float32)


@dataclass(frozen=True, slots=True)
class Blob:
    """An irregular oval; lengths in pixels, angle in radians (x to the right, y down)."""

    x: float
    y: float
    rx: float
    ry: float
    angle: float = 0.0
    wobble: tuple[tuple[float, float], ...] = ()
    """Relative amplitude and phase of the second, third, ... harmonic of the outline."""

    @classmethod
    def random(
        cls, rng: Rng, x: float, y: float, rx: float, ry: float, *, angle: float = 0.0, wobble: float = 0.06
    ) -> Blob:
        """An oval whose outline deviates by about ``wobble`` of its radius."""
        harmonics = tuple((float(rng.normal(0, wobble / k)), float(rng.uniform(0, 6.3))) for k in (1, 2, 3))
        return cls(x, y, rx, ry, angle, harmonics)

    def window(self, shape: tuple[int, int], margin: float = 0.0) -> Window | None:
        """The part of a (height, width) canvas that the oval and a margin can touch; None if outside."""
        reach_x = (
            math.hypot(self.rx * math.cos(self.angle), self.ry * math.sin(self.angle)) * 1.35 + margin + 2
        )
        reach_y = (
            math.hypot(self.rx * math.sin(self.angle), self.ry * math.cos(self.angle)) * 1.35 + margin + 2
        )
        top, bottom = max(0, int(self.y - reach_y)), min(shape[0], int(self.y + reach_y) + 1)
        left, right = max(0, int(self.x - reach_x)), min(shape[1], int(self.x + reach_x) + 1)
        return (slice(top, bottom), slice(left, right)) if bottom > top and right > left else None

    def polar(self, window: Window) -> tuple[Map, Map]:
        """Signed distance from the outline along the ray from the centre (pixels, negative inside), and the
        steepness of that ray (0 sideways, 1 straight up or down), both over the window."""
        rows, columns = window
        dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(self.y)
        dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(self.x)
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        u, v = (dx * cosine + dy * sine) / self.rx, (dy * cosine - dx * sine) / self.ry
        radius = np.sqrt(u * u + v * v) + np.float32(1e-6)
        outline = np.ones_like(radius)
        if self.wobble:
            turn = np.arctan2(v, u)
            for order, (amplitude, phase) in enumerate(self.wobble, start=2):
                outline += np.float32(amplitude) * np.cos(order * turn + np.float32(phase))
        length = np.sqrt(dx * dx + dy * dy) + np.float32(1e-6)
        distance = (radius - outline) * (length / radius)
        # The outline's normal, not the ray: a flat oval faces the beam along most of its length.
        normal_x = u * (cosine / self.rx) - v * (sine / self.ry)
        normal_y = u * (sine / self.rx) + v * (cosine / self.ry)
        steep = np.abs(normal_y) / (np.hypot(normal_x, normal_y) + np.float32(1e-9))
        return np.asarray(distance, np.float32), np.asarray(steep, np.float32)

    def grown(self, pixels: float) -> Blob:
        """The same oval, enlarged by ``pixels`` on every side."""
        return Blob(self.x, self.y, self.rx + pixels, self.ry + pixels, self.angle, self.wobble)

    def overlaps(self, other: Blob, gap: float = 0.0) -> bool:
        """True if the ovals are closer than ``gap`` pixels along the line between their centres."""
        between = math.hypot(other.x - self.x, other.y - self.y)
        way = math.atan2(other.y - self.y, other.x - self.x)
        return between < self.reach(way) + other.reach(way) + gap

    def reach(self, direction: float) -> float:
        """Radius towards ``direction`` (radians)."""
        cosine, sine = math.cos(direction - self.angle), math.sin(direction - self.angle)
        return self.rx * self.ry / math.hypot(self.ry * cosine, self.rx * sine)


def soft(distance: Map, width: float = 1.2) -> Map:
    """Weight 0..1 of a signed distance: 1 inside, 0 outside, with a ramp of ``width`` pixels between."""
    return as_map(np.clip(0.5 - distance / np.float32(width), 0, 1))


def turned_noise(rng: Rng, shape: tuple[int, int], along: float, across: float, angle: float) -> Map:
    """Unit-variance strands of length ``along`` at ``angle`` radians (x right, y down)."""
    side = int(np.hypot(*shape)) + 4
    field = noise(rng, (side, side), along, across)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(-np.degrees(angle)), 1.0)
    turn[:, 2] -= np.array([(side - shape[1]) / 2, (side - shape[0]) / 2])
    return np.asarray(cv2.warpAffine(field, turn, (shape[1], shape[0]), flags=cv2.INTER_LINEAR), np.float32)


def as_map(values: npt.ArrayLike) -> Map:
    """The values as float32, without a copy if they are float32 already."""
    return np.asarray(values, np.float32)


def sample(field: npt.ArrayLike, columns: Map, rows: Map) -> Map:
    """Values of a float32 field at fractional columns and rows, linear; mirrored outside."""
    flags = cv2.INTER_LINEAR
    return as_map(cv2.remap(as_map(field), columns, rows, flags, borderMode=cv2.BORDER_REFLECT_101))
