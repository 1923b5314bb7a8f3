"""labelme: a JSON file beside each image, with shapes. https://github.com/wkentaro/labelme

Shapes of type ``mask`` hold a PNG and its box, polygons go through pixel centres. Flags of the image are
ticks beside it: one of them says that the frame was looked at.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from streamseg.annotation.formats.reading import Reading, is_yes, read_document, union
from streamseg.annotation.formats.shapes import box_of, fill_by_centres, pasted, points_of, whole_box
from streamseg.annotation.frames import Draft, Review, SelectedFrame
from streamseg.core.files import natural_key, write_text
from streamseg.core.types import Mask


def write(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write ``X.json`` beside each image ``X.png``. Raises SinkError."""
    for draft in drafts:
        image = Path(draft.frame.image)
        document = {
            "version": "5.5.0",
            "flags": {str(Review.LOOKED_AT): False},
            "shapes": [_shape(name, mask) for name, mask in draft.masks.items() if mask.any()],
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": draft.frame.height,
            "imageWidth": draft.frame.width,
        }
        write_text(folder / image.with_suffix(".json"), json.dumps(document, indent=1) + "\n")


def _shape(structure: str, mask: Mask) -> dict[str, Any]:
    left, top, width, height = box_of(mask)
    part = mask[top : top + height, left : left + width]
    data = io.BytesIO()
    Pillow.fromarray(part.astype(np.uint8)).save(data, "PNG")
    return {
        "label": structure,
        "points": [[left, top], [left + width - 1, top + height - 1]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(data.getvalue()).decode(),
    }


def read(path: Path, reading: Reading) -> None:
    """Read a JSON file, or all of a folder or its ``images/``."""
    images = path / "images"
    folder = images if images.is_dir() else path
    files = sorted(folder.glob("*.json"), key=natural_key) if folder.is_dir() else [path]
    if not files:
        raise ValueError("it holds no JSON files of labelme")
    for file in files:
        with reading.problem(file):
            _read_file(file, reading)


def _read_file(file: Path, reading: Reading) -> None:
    document = read_document(file)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise ValueError("it is not a file of labelme: it has no list of shapes")
    frame = reading.frame(document.get("imagePath") or file.name)
    reading.check_size(frame, document.get("imageWidth"), document.get("imageHeight"))
    masks: dict[str, Mask] = {}
    for shape in document["shapes"]:
        union(masks, shape["label"], _mask(shape, frame))
    flags = document.get("flags")
    looked_at = is_yes((flags if isinstance(flags, dict) else {}).get(str(Review.LOOKED_AT)))
    reading.add(frame, masks, looked_at=looked_at, file=file)


def _mask(shape: dict[str, Any], frame: SelectedFrame) -> Mask:
    kind = shape.get("shape_type", "polygon")
    if kind == "mask":
        try:
            data = base64.b64decode(shape["mask"], validate=False)
            with Pillow.open(io.BytesIO(data)) as picture:
                if picture.width > frame.width or picture.height > frame.height:
                    raise ValueError(f"a mask reaches outside the image of {frame.width}x{frame.height}")
                part = np.asarray(picture) != 0
        except (binascii.Error, OSError, SyntaxError) as error:
            raise ValueError("a mask is not a PNG in base 64") from error
        if part.ndim != 2:
            raise ValueError("a mask is not a PNG of one channel")
        left, top = (round(number) for number in shape["points"][0])
        whole_box((left, top, part.shape[1], part.shape[0]), frame.height, frame.width)
        return pasted(part, left, top, frame.height, frame.width)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = shape["points"]
        return fill_by_centres(points_of([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]), frame.height, frame.width)
    if kind == "polygon":
        return fill_by_centres(points_of(shape["points"]), frame.height, frame.width)
    raise ValueError(f"a shape of type {kind!r} has no area that can be read; draw masks or polygons")
