"""Converts decoded DICOM samples to 8-bit grey or BGR images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from streamseg.core.errors import SourceError
from streamseg.core.types import Image

Samples = npt.NDArray[Any]
_LUMA_CHROMA = ("YBR_FULL", "YBR_FULL_422")
_RED_GREEN_BLUE = ("RGB", "YBR_RCT", "YBR_ICT")  # JPEG 2000 decoders undo the latter two themselves
_GREYS = ("MONOCHROME1", "MONOCHROME2")


class SampleConverter:
    """Converts the samples of one file's frames to images, with the look-up table of the first frame.

    Grey values go through the file's rescaling and its first window. Without a window, up to 8 bits use
    their whole range; more bits are scaled to the range of the first frame, so that the brightness does not
    jump from frame to frame.
    """

    def __init__(self, header: Dataset) -> None:
        self._header = header
        self._table: Image | None = None
        self._limits: tuple[float, float] | None = None
        self._spare: int | None = None

    def convert(self, samples: Samples, photometric: str) -> Image:
        """Image, uint8, (H, W) or (H, W, 3) BGR, of samples (H, W) or (H, W, 3). Raises SourceError."""
        if samples.dtype.itemsize > 2 and photometric == "PALETTE COLOR":
            raise SourceError("palettes of more than 16 bits are not supported; export the file as RGB")
        # Big-endian files decode to big-endian arrays, which must not be viewed as bytes.
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        samples = self._aligned(samples)
        if photometric in _GREYS and samples.ndim == 3:
            photometric = "RGB"  # the label is wrong
        if photometric in _GREYS:
            return self._grey(samples)
        if photometric == "PALETTE COLOR":
            return self._palette(samples)
        eight = self._eight_bits(samples)
        if photometric in _RED_GREEN_BLUE:
            return cv2.cvtColor(eight, cv2.COLOR_RGB2BGR)  # type: ignore[return-value]
        if photometric in _LUMA_CHROMA:
            luma, blue, red = cv2.split(eight)
            return cv2.cvtColor(cv2.merge((luma, red, blue)), cv2.COLOR_YCrCb2BGR)  # type: ignore[return-value]
        raise SourceError(f"colours stored as {photometric[:16]!r} are not supported; export the file as RGB")

    def _aligned(self, samples: Samples) -> Samples:
        """Samples whose stored bits are the lowest ones.

        HighBit may say that they are the highest: 15 with 8 stored bits. Some files say so, and store them
        lowest all the same.
        """
        spare = int(self._header.get("HighBit", 0)) + 1 - int(self._header.BitsStored)
        if samples.dtype.kind not in "ui" or not 0 < spare < 8 * samples.dtype.itemsize:
            return samples
        if self._spare is None:
            self._spare = 0 if (samples & ((1 << spare) - 1)).any() else spare
        return samples >> self._spare if self._spare else samples

    def _eight_bits(self, samples: Samples) -> Image:
        if samples.dtype == np.uint8:
            return samples
        eight: Image = (samples >> max(0, int(self._header.BitsStored) - 8)).clip(0, 255).astype(np.uint8)
        return eight

    def _palette(self, samples: Samples) -> Image:
        codes = samples.view(f"u{samples.dtype.itemsize}")
        if self._table is None:
            every = np.arange(256**codes.dtype.itemsize).astype(codes.dtype)
            colours = apply_color_lut(every.reshape(1, -1), self._header)[0]
            wide = colours.dtype.itemsize > 1 and colours.max() > 255
            self._table = np.ascontiguousarray((colours >> 8 if wide else colours).astype(np.uint8)[:, ::-1])
        coloured: Image = self._table[codes]
        return coloured

    def _grey(self, samples: Samples) -> Image:
        if samples.dtype.kind == "f" or samples.dtype.itemsize > 2:
            return self._shown(samples, samples)
        codes = samples.view(f"u{samples.dtype.itemsize}")
        if self._table is None:
            # A table of every possible value: a frame then costs one look-up per pixel.
            every = np.arange(256**codes.dtype.itemsize).astype(codes.dtype).view(samples.dtype)
            self._table = self._shown(every, samples)
        grey: Image = self._table[codes]
        return grey

    def _shown(self, values: Samples, first: Samples) -> Image:
        header = self._header
        scaled = apply_modality_lut(values, header)
        if header.get("VOILUTSequence"):
            bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
            shown = apply_voi(scaled.astype(np.int32), header) * (255.0 / (2**bits - 1))
        elif header.get("WindowWidth") is not None and header.get("WindowCenter") is not None:
            shown = _window(scaled.astype(np.float64), header)
        else:
            if self._limits is None:
                self._limits = self._range(first)
            low, high = self._limits
            shown = (scaled.astype(np.float64) - low) * (255.0 / (high - low))
        if header.PhotometricInterpretation == "MONOCHROME1":
            shown = 255.0 - shown
        eight: Image = np.clip(np.rint(np.nan_to_num(shown)), 0, 255).astype(np.uint8)
        return eight

    def _range(self, first: Samples) -> tuple[float, float]:
        bits = min(int(self._header.BitsStored), 8 * first.dtype.itemsize)
        ends = np.array([first.min(), first.max()])
        if bits <= 8 and first.dtype.kind == "u":
            ends = np.array([0, 2**bits - 1])
        low, high = sorted(apply_modality_lut(ends.astype(first.dtype), self._header).astype(float).tolist())
        return low, max(high, low + 1)


def _window(values: npt.NDArray[np.float64], header: Dataset) -> npt.NDArray[np.float64]:
    """Values 0..255 through the first window (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    center, width = (float(np.atleast_1d(header.get(key))[0]) for key in ("WindowCenter", "WindowWidth"))
    function = header.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return 255.0 / (1 + np.exp(np.clip(-4 * (values - center) / max(width, 1e-6), -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return ((values - center) / max(width, 1e-6) + 0.5) * 255.0
