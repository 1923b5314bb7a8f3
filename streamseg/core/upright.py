"""Turns images upright by their orientation tag, for sources and data sets alike."""

from __future__ import annotations

from PIL import Image as Pillow
from PIL import ImageOps

from streamseg.core.pillow import silence_pillow

_ORIENTATION = 0x0112
silence_pillow()  # before any image is opened


def orientation(picture: Pillow.Image) -> int:
    """The orientation tag of an image that was opened and not yet decoded, 1..8; 1 if there is none."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged tag, of which Pillow's parser raises almost anything, harms no pixel
        return 1


def turn_upright(picture: Pillow.Image) -> None:
    """Decode an opened image and turn it in place. Raises whatever Pillow raises for a damaged file."""
    found = orientation(picture)
    if found == 1:
        return
    # Pillow 13 decodes an uncompressed TIFF whose orientation exchanges the sides with sides exchanged.
    if picture.format == "TIFF" and found > 4 and picture.info.get("compression") == "raw":
        picture._size = picture._tile_size  # type: ignore[attr-defined]
    ImageOps.exif_transpose(picture, in_place=True)
