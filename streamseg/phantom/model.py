"""Data of the phantom: the image that it yields, and the canvas on which its tissue is painted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamseg.core.types import Grey, Mask

NO_ECHO_DB = -60.0
"""A coherent echo too weak to see."""
Map = npt.NDArray[np.float32]
"""float32, shape (height, width) of the canvas."""


@dataclass(frozen=True, slots=True, repr=False)
class PhantomImage:
    """One image of the phantom with its true masks."""

    image: Grey
    """uint8 (height, width), as shown by a scanner: 0 is black, 255 the brightest echo."""
    nerve: Mask
    """bool (height, width): nerve including its outer epineurium. All False without nerve."""
    vessel: Mask
    """bool (height, width): blood inside arteries and veins. Never overlaps ``nerve``."""

    def __repr__(self) -> str:
        return (
            f"PhantomImage({self.image.shape}, nerve_px={int(self.nerve.sum())}, "
            f"vessel_px={int(self.vessel.sum())})"
        )


@dataclass(frozen=True, slots=True)
class Vessel:
    """Position and kind of a vessel on its canvas, used to move it."""

    x: float
    y: float
    radius: float
    """Mean radius, pixels."""
    artery: bool
    """Arteries pulsate; veins give way to the probe."""


@dataclass(slots=True, repr=False)
class Canvas:
    """Tissue in a plane below the probe, painted once, then scanned.

    Rows are depth. Echo levels are decibels on the scale of the display: 0 dB is black, about 60 dB white.
    """

    mm: float
    """Millimetres per pixel, the same in both directions."""
    echo_db: Map
    """Mean level of the diffuse (speckle) echo, dB."""
    mirror_db: Map
    """Level of the smooth, coherent echo of fascia, walls and bone, dB; very low if there is none."""
    loss: Map
    """Two-way attenuation not compensated by the machine's gain, dB per mm; negative in blood."""
    nerve: Mask
    vessel: Mask
    vessels: list[Vessel] = field(default_factory=list)

    @classmethod
    def empty(cls, height: int, width: int, mm: float) -> Canvas:
        """A canvas without any echo."""
        shape = (height, width)
        return cls(
            mm=mm,
            echo_db=np.zeros(shape, np.float32),
            mirror_db=np.full(shape, NO_ECHO_DB, np.float32),
            loss=np.zeros(shape, np.float32),
            nerve=np.zeros(shape, np.bool_),
            vessel=np.zeros(shape, np.bool_),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.echo_db.shape[0], self.echo_db.shape[1]

    @property
    def depth_mm(self) -> float:
        """Depth of the last row."""
        return self.shape[0] * self.mm
