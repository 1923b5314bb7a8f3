"""Renders videos of one region: the tissue is created once, each frame is a warp of it."""

from __future__ import annotations

import math

import cv2
import numpy as np

from streamseg.core.errors import UsageError
from streamseg.core.types import Grey, Mask
from streamseg.phantom import scan
from streamseg.phantom.anatomy import build
from streamseg.phantom.model import Canvas, Map, PhantomImage
from streamseg.phantom.motion import Motion, Warp
from streamseg.phantom.shapes import as_map
from streamseg.phantom.still import check_size, contact

LOOKS = 3
"""Maximum number of compounded looks: each costs time in every frame."""


class PhantomVideo:
    """A video of one phantom, smooth in time, with random access to its frames.

    Tissue and speckle move together with the probe; speckle changes slowly as the probe leaves the plane;
    arteries pulsate at a heart rate; veins and soft tissue yield to pressure; the gain changes now and then.
    The same arguments give the same frames.
    """

    def __init__(
        self,
        seed: int,
        *,
        height: int = 420,
        width: int = 580,
        fps: float = 30.0,
        nerve: bool | None = None,
    ) -> None:
        """Create the tissue (about half a second at 420x580).

        ``nerve``: True keeps a nerve in view, False shows none, None moves the probe away from one and back
        every 8 to 12 seconds. Raises UsageError for a negative seed, or an invalid size or rate.
        """
        check_size(seed, height, width)
        if not 0 < fps < math.inf:
            raise UsageError(f"phantom cannot run at {fps} frames per second; give more than 0")
        self.seed, self.height, self.width, self.fps = seed, height, width, fps
        rng = np.random.default_rng((seed, 2))
        mm = rng.uniform(33.6, 42) / height
        self.spacing_mm = (mm, mm)
        """Millimetres per pixel (row, column): the image is 34 to 42 mm deep."""
        slide = round(1.2 * width) if nerve is None else 0
        margin = math.ceil(4.0 / mm)
        below = math.ceil(0.13 * height)
        canvas = build(
            rng,
            height + below,
            width + slide + 2 * margin,
            mm,
            nerve=nerve is not False,
            centre=margin + width / 2,
            span=0.7 * width,
        )
        machine = scan.ScannerSettings.random(rng)
        self._motion = Motion.random(rng, seed, mm, slide)
        self._warp = Warp(canvas, height, width, margin)
        self._columns = width + margin
        self._machine = machine
        self._contact = contact(rng, height, width, mm)
        self._noise = scan.noise_grain(rng, (height + 64, width + 64), machine, mm)
        self._noise_level = scan.noise_level(height, machine)
        self._nerve = canvas.nerve.astype(np.uint8) * np.uint8(255)
        self._vessel = canvas.vessel.astype(np.uint8) * np.uint8(255)
        self._mirror, self._fields = _fields(rng, canvas, machine)

    def __repr__(self) -> str:
        return f"PhantomVideo(seed={self.seed}, {self.width}x{self.height}, fps={float(self.fps):g})"

    def frame(self, index: int) -> PhantomImage:
        """Frame ``index`` (0, 1, 2, ... without end) with its masks."""
        t = self._time(index)
        columns, rows, first = self._warp.maps(self._motion, t)
        envelope = as_map(cv2.remap(self._envelope(first, t), columns, rows, cv2.INTER_LINEAR))
        envelope *= self._contact
        envelope *= float(10 ** (self._motion.gain(t) / 20))
        envelope += self._noise_of(index)
        nerve = self._mask(self._nerve, columns, rows, first)
        vessel = self._mask(self._vessel, columns, rows, first) & ~nerve
        return PhantomImage(scan.compress(envelope, self._machine), nerve, vessel)

    def truth(self, index: int) -> Mask:
        """Only the nerve of frame ``index``, without rendering the image: bool (height, width)."""
        columns, rows, first = self._warp.maps(self._motion, self._time(index))
        return self._mask(self._nerve, columns, rows, first)

    def _time(self, index: int) -> float:
        if index < 0:
            raise IndexError(f"phantom frames count from 0, received {index}")
        return index / self.fps

    def _envelope(self, first: int, t: float) -> Map:
        """Compounded envelope of the canvas columns that a frame needs."""
        part = (slice(None), slice(first, first + self._columns))
        total = np.zeros(self._mirror[part].shape, np.float32)
        for look, (real_0, real_1, imaginary_0, imaginary_1) in enumerate(self._fields):
            turn = self._motion.speckle_turn(look, t)
            cosine, sine = math.cos(turn), math.sin(turn)
            real = cv2.addWeighted(real_0[part], cosine, real_1[part], sine, 0.0)
            real = cv2.add(real, self._mirror[part], dst=real)
            imaginary = cv2.addWeighted(imaginary_0[part], cosine, imaginary_1[part], sine, 0.0)
            total += as_map(cv2.magnitude(real, imaginary))
        return scan.detect(total, self._machine, self.spacing_mm[0])

    def _noise_of(self, index: int) -> Map:
        """Electronic noise of a frame: a piece of the noise field, seeded by the frame."""
        top, left = np.random.default_rng((self.seed, 3, index)).integers(0, 64, 2)
        return as_map(self._noise[top : top + self.height, left : left + self.width] * self._noise_level)

    def _mask(self, field: Grey, columns: Map, rows: Map, first: int) -> Mask:
        part = field[:, first : first + self._columns]
        return np.asarray(cv2.remap(part, columns, rows, cv2.INTER_LINEAR)) > 127


def _fields(
    rng: np.random.Generator, canvas: Canvas, machine: scan.ScannerSettings
) -> tuple[Map, list[tuple[Map, Map, Map, Map]]]:
    """The coherent echo, and per look two independent speckle fields (real, real, imaginary, imaginary)."""
    diffuse, coherent = scan.amplitudes(canvas, machine)
    looks = min(LOOKS, machine.looks)
    # Divide by the number of looks here once instead of in every frame.
    diffuse, coherent = diffuse / np.float32(looks), coherent / np.float32(looks)
    nothing = np.zeros_like(coherent)
    fields = []
    for _ in range(looks):
        real_0, imaginary_0 = scan.look(rng, diffuse, nothing, machine, canvas.mm)
        real_1, imaginary_1 = scan.look(rng, diffuse, nothing, machine, canvas.mm)
        fields.append((real_0, real_1, imaginary_0, imaginary_1))
    return scan.convolve(coherent, machine, canvas.mm), fields
