"""Scans tissue into an image: scatterers, the beam's point spread, attenuation, gain, log compression.

The echo of a cell much smaller than the beam is a complex Gaussian number; the machine sees the sum over its
point spread function, so the envelope of even tissue is Rayleigh distributed (mean / standard deviation =
1.91) and its grains have the size of the beam. Compounding averages the envelopes of independent looks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from streamseg.core.types import Grey
from streamseg.phantom.model import Canvas, Map
from streamseg.phantom.shapes import Rng, as_map, noise

BANDS = 24
"""Number of depth bands of constant beam width: neighbours differ invisibly, by a few per cent."""
PER_DB = math.log(10) / 20


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """Settings of the imaginary scanner."""

    axial_mm: float
    """Standard deviation of the pulse along depth."""
    lateral_mm: float
    """Standard deviation of the beam across, at the focus."""
    focus: float
    """Depth of the focus as a fraction of the image's depth."""
    widening: float
    """Beam width half the image's depth away from the focus, relative to the focus, minus 1."""
    looks: int
    """Compounded looks, 1 or more: speckle contrast falls with their square root."""
    range_db: float
    """Dynamic range, dB from black to white."""
    level_db: float
    """Level of the upper quartile of the tissue's echoes after the operator's gain, dB above black."""
    tilt_db_per_mm: float
    """Over-compensation (positive) or under-compensation of the depth gain."""
    noise_db: float
    """Level of the electronic noise before the depth gain, at the deepest row."""
    gamma: float
    """Exponent of the grey map."""

    @classmethod
    def random(cls, rng: Rng) -> ScannerSettings:
        """Draw settings such as users leave them."""
        return cls(
            axial_mm=rng.uniform(0.085, 0.13),
            lateral_mm=rng.uniform(0.13, 0.22),
            focus=rng.uniform(0.25, 0.6),
            widening=rng.uniform(0.2, 0.9),
            looks=int(rng.choice([2, 3, 4, 5, 6], p=[0.1, 0.2, 0.25, 0.25, 0.2])),
            range_db=rng.uniform(54, 68),
            level_db=min(25.0, max(10.0, rng.normal(16.5, 3.4))),
            tilt_db_per_mm=rng.normal(-0.45, 0.17),
            noise_db=rng.normal(4.5, 3.5),
            gamma=rng.uniform(1.0, 1.35),
        )


def kernel(sigma: float) -> Map:
    """Gaussian of unit energy (not unit sum), shape (2r+1, 1): keeps the power of uncorrelated echoes."""
    radius = max(1, math.ceil(2.6 * sigma))
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-3)) ** 2)
    return (weights / math.sqrt(float((weights**2).sum()))).astype(np.float32)[:, None]


def convolve(field: Map, machine: ScannerSettings, mm: float) -> Map:
    """Apply the beam's point spread to one real plane of a field (height, width)."""
    out = cv2.filter2D(field, -1, kernel(machine.axial_mm / mm), borderType=cv2.BORDER_REFLECT_101)
    height = field.shape[0]
    edges = np.linspace(0, height, min(BANDS, height) + 1).astype(int)
    for top, bottom in itertools.pairwise(edges):
        away = abs((top + bottom) / (2 * height) - machine.focus) / 0.5
        sigma = machine.lateral_mm / mm * (1 + machine.widening * away**1.5)
        # Rows do not mix here, so that bands have no seam.
        row = np.ascontiguousarray(kernel(sigma).T)
        out[top:bottom] = cv2.filter2D(out[top:bottom], -1, row, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(out, np.float32)


POOL = 1024


@lru_cache(maxsize=1)
def _pool() -> Map:
    """Normal numbers, drawn once: cutting out a random piece is many times faster than drawing new ones."""
    return np.random.default_rng(0).standard_normal((POOL, POOL), dtype=np.float32)


def scatterers(rng: Rng, shape: tuple[int, int]) -> Map:
    """Independent standard normal numbers (height, width); two draws overlap only by chance."""
    if max(shape) > POOL:
        return rng.standard_normal(shape, dtype=np.float32)
    top, left = (int(rng.integers(POOL - side + 1)) for side in shape)
    piece = _pool()[top : top + shape[0], left : left + shape[1]]
    return piece[:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))]


def speckle(rng: Rng, shape: tuple[int, int], machine: ScannerSettings, mm: float) -> tuple[Map, Map]:
    """Fully developed speckle of even tissue: real and imaginary plane, unit variance each."""
    return convolve(scatterers(rng, shape), machine, mm), convolve(scatterers(rng, shape), machine, mm)


def amplitudes(canvas: Canvas, machine: ScannerSettings) -> tuple[Map, Map]:
    """Diffuse and coherent echo amplitude per pixel, attenuated by everything above it."""
    loss = np.cumsum(canvas.loss, axis=0, dtype=np.float32) * np.float32(canvas.mm)
    # The aperture sees around small structures: shadows have soft sides.
    loss = as_map(cv2.blur(loss, (max(3, round(0.5 / canvas.mm)) | 1, 1)))
    depth = np.arange(canvas.shape[0], dtype=np.float32)[:, None] * np.float32(canvas.mm)
    level = canvas.echo_db + depth * np.float32(machine.tilt_db_per_mm) - loss
    gain = np.float32(machine.level_db - np.percentile(level[::4, ::4], 75))
    diffuse = np.exp((level + gain) * np.float32(PER_DB))
    coherent = np.exp((canvas.mirror_db + level + (gain - canvas.echo_db)) * np.float32(PER_DB))
    # A long reflector adds up in phase over pulse and beam; its level is defined after that gain.
    axial, lateral = machine.axial_mm / canvas.mm, machine.lateral_mm / canvas.mm
    coherent *= np.float32(1 / (kernel(lateral).sum() * max(1.0, 0.7 * kernel(axial).sum())))
    return diffuse * np.float32(math.sqrt(0.5)), coherent


def look(rng: Rng, diffuse: Map, coherent: Map, machine: ScannerSettings, mm: float) -> tuple[Map, Map]:
    """The complex echo (real, imaginary) of new scatterers with the given amplitudes."""
    shape = (diffuse.shape[0], diffuse.shape[1])
    real = scatterers(rng, shape) * diffuse + coherent
    imaginary = scatterers(rng, shape) * diffuse
    return convolve(real, machine, mm), convolve(imaginary, machine, mm)


def envelope(rng: Rng, canvas: Canvas, machine: ScannerSettings) -> Map:
    """Compounded envelope of the canvas, before compression."""
    diffuse, coherent = amplitudes(canvas, machine)
    total = np.zeros(canvas.shape, np.float32)
    for _ in range(machine.looks):
        total += cv2.magnitude(*look(rng, diffuse, coherent, machine, canvas.mm))
    return detect(total / np.float32(machine.looks), machine, canvas.mm)


def detect(envelope: Map, machine: ScannerSettings, mm: float) -> Map:
    """Apply the detector's low-pass filter, which fills the black pits of speckle as compounding does."""
    across, down = 0.6 * machine.lateral_mm / mm, 0.5 * machine.axial_mm / mm
    return as_map(cv2.GaussianBlur(envelope, (0, 0), sigmaX=across, sigmaY=down))


def noise_grain(rng: Rng, shape: tuple[int, int], machine: ScannerSettings, mm: float) -> Map:
    """Electronic noise of mean 1, uniform over (height, width)."""
    grain = machine.axial_mm / mm
    return as_map(np.abs(1 + np.float32(0.25) * noise(rng, shape, 1.8 * grain, 0.9 * grain)))


def noise_level(height: int, machine: ScannerSettings) -> Map:
    """Amplitude of the noise after the machine's depth gain: linear, per row, (height, 1)."""
    depth = np.linspace(-1, 0, height, dtype=np.float32)[:, None]
    return as_map(np.exp((np.float32(machine.noise_db) + 9 * depth) * np.float32(PER_DB)))


def compress(envelope: Map, machine: ScannerSettings) -> Grey:
    """Logarithmic compression and grey map: uint8 (height, width)."""
    level = as_map(cv2.log(np.maximum(envelope, np.float32(1e-3))))
    level = np.clip(level * np.float32(1 / (PER_DB * machine.range_db)), 0, 1)
    return np.asarray(cv2.convertScaleAbs(cv2.pow(level, machine.gamma), alpha=255.0), np.uint8)
