"""Reads from a compressed frame itself how it is coded, because labels of DICOM files are sometimes wrong.

Sizes are read as well: a decoder allocates what the frame says, not what the header of the file says.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from pydicom.uid import JPEG2000, UID, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless

Coding = Literal["jpeg", "jpeg 12 bit", "jpeg lossless", "jpeg-ls", "jpeg 2000"]
SYNTAX: dict[Coding, UID] = {
    "jpeg 12 bit": JPEGExtended12Bit,
    "jpeg lossless": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg 2000": JPEG2000,
}
"""The transfer syntax by whose decoder each coding is read, but for JPEG of 8 bits, which Pillow reads."""
_SOF_LOSSLESS, _SOF_JPEG_LS = 0xC3, 0xF7
_SOFS = (0xC0, 0xC1, 0xC2, _SOF_LOSSLESS, _SOF_JPEG_LS)
_STANDALONE = (0x01, *range(0xD0, 0xD9))
_CODESTREAM = b"\xff\x4f\xff\x51"
_SEARCHED = 4096
_ADOBE_RGB, _ADOBE_YCC = 0, 1


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """What a compressed frame says of itself."""

    coding: Coding
    width: int
    height: int
    components: int
    ids: bytes = b""
    """The components' numbers in a JPEG."""
    jfif: bool = False
    adobe: int | None = None
    """The colour transform of an Adobe marker."""


def inspect(data: bytes) -> CodedFrame | None:
    """Read the header of a frame; None if it is neither JPEG, JPEG-LS nor JPEG 2000, or damaged."""
    if data[:2] == b"\xff\xd8":
        return _inspect_jpeg(data)
    at = data.find(_CODESTREAM, 0, _SEARCHED)
    if at < 0 or (at > 0 and data[4:8] != b"jP  ") or len(data) < at + 42:
        return None
    right, bottom, left, top = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (8, 12, 16, 20))
    components = int.from_bytes(data[at + 40 : at + 42], "big")
    return CodedFrame("jpeg 2000", right - left, bottom - top, components)


def _inspect_jpeg(data: bytes) -> CodedFrame | None:
    position, jfif, adobe = 2, False, None
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if marker in _SOFS:
            if len(body) < 6 or len(body) < 6 + 3 * body[5]:
                return None
            coding = _coding(marker, precision=body[0])
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return CodedFrame(coding, width, height, body[5], body[6 : 6 + 3 * body[5] : 3], jfif, adobe)
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        if length < 2 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return None
        position += 2 + length
    return None


def _coding(marker: int, *, precision: int) -> Coding:
    if marker == _SOF_JPEG_LS:
        return "jpeg-ls"
    if marker == _SOF_LOSSLESS:
        return "jpeg lossless"
    return "jpeg" if precision == 8 else "jpeg 12 bit"


def decode_jpeg(data: bytes, coded: CodedFrame, label: str) -> npt.NDArray[np.uint8]:
    """An 8-bit JPEG as (H, W) grey or (H, W, 3) RGB; ``label`` is the file's photometric interpretation.

    Markers say whether colours are stored as luma and chroma (ITU-T T.872), else the label. Where a label
    says RGB and no marker says anything, the data decides: in an ultrasound image red, green and blue are
    nearly equal, and chroma is nearly 128. Raises what Pillow raises on damage.
    """
    image = Pillow.open(io.BytesIO(data), formats=("JPEG",))
    if coded.components != 3:
        return np.array(image if image.mode == "L" else image.convert("RGB"))
    marked = coded.jfif or coded.adobe is not None or coded.ids == b"RGB"
    if marked or label != "RGB":
        return np.array(image.convert("RGB"))
    image.draft("YCbCr", image.size)  # the components as they are stored
    stored = np.array(image)
    return stored if _looks_like_rgb(stored) else np.array(Pillow.fromarray(stored, "YCbCr").convert("RGB"))


def _looks_like_rgb(stored: npt.NDArray[np.uint8]) -> bool:
    sample = stored[::4, ::4].astype(np.int16)
    first, second, third = sample[..., 0], sample[..., 1], sample[..., 2]
    as_rgb = np.abs(first - second).mean() + np.abs(first - third).mean()
    as_chroma = np.abs(second - 128).mean() + np.abs(third - 128).mean()
    return bool(as_rgb <= as_chroma)


def rle_fits(data: bytes, length: int) -> bool:
    """Whether the segments of an RLE frame decode to little more than ``length`` bytes (PS3.5, annex G).

    Two bytes may stand for 128, so that a small file could fill the memory.
    """
    if len(data) > 2 * length + _SEARCHED:
        return False
    if len(data) * 64 <= 4 * length + _SEARCHED:
        return True
    limit, total, position = 2 * length + _SEARCHED, 0, 64
    while position < len(data) and total <= limit:
        head = data[position]
        if head < 128:
            total, position = total + head + 1, position + head + 2
        elif head > 128:
            total, position = total + 257 - head, position + 2
        else:
            position += 1
    return total <= limit
