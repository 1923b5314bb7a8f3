"""COCO instances: one JSON file. https://cocodataset.org/#format-data

Masks are run lengths down the columns, the first of background, as a list of numbers or as COCO's packed
text; polygons count from the first pixel's edge. COCO has no place for "a person looked at this frame": it is
the key ``looked_at`` of an image, or the table ``frames.csv``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.annotation.formats.reading import Reading, is_yes, read_document, union
from streamseg.annotation.formats.shapes import box_of, fill_by_edges, of_runs, points_of, runs_of
from streamseg.annotation.frames import STRUCTURES, Draft, SelectedFrame
from streamseg.core.files import write_text
from streamseg.core.types import Mask

FILE = "annotations.json"
_MAX_DIGITS = 7
"""Of a packed run length, five bits each."""


def write(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write ``annotations.json``. Raises SinkError."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, draft in enumerate(drafts, start=1):
        frame = draft.frame
        images.append(
            {
                "id": number,
                "file_name": Path(frame.image).name,
                "width": frame.width,
                "height": frame.height,
                "looked_at": False,
            }
        )
        for structure, mask in draft.masks.items():
            if mask.any():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": STRUCTURES[structure],
                        "segmentation": {
                            "size": [frame.height, frame.width],
                            "counts": runs_of(mask.ravel(order="F")),
                        },
                        "area": int(mask.sum()),
                        "bbox": list(box_of(mask)),
                        "iscrowd": 1,  # by which readers know that it is run lengths, not polygons
                    }
                )
    categories = [{"id": number, "name": structure} for structure, number in STRUCTURES.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    write_text(folder / FILE, json.dumps(document) + "\n")


def read(path: Path, reading: Reading) -> None:
    """Read the JSON file, or ``annotations.json`` of a folder."""
    file = path / FILE if path.is_dir() else path
    with reading.problem(file):
        document = read_document(file)
        if not isinstance(document, dict):
            raise ValueError("it is not a file of COCO: no object")
        names = {entry["id"]: entry["name"] for entry in document["categories"]}
        of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in document["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        for image in document["images"]:
            with reading.problem(file, f"image {image.get('file_name')!r}"):
                _read_image(image, of_image.pop(image["id"], []), names, file, reading)
        for number in of_image:
            reading.problems.append(f"{file}: an annotation is of image {number}, which the file lacks")


def _read_image(
    image: dict[str, Any],
    annotations: Sequence[dict[str, Any]],
    names: dict[Any, str],
    file: Path,
    reading: Reading,
) -> None:
    frame = reading.frame(image["file_name"])
    reading.check_size(frame, image.get("width"), image.get("height"))
    masks: dict[str, Mask] = {}
    for annotation in annotations:
        if annotation["category_id"] not in names:
            raise ValueError(f"an annotation is of category {annotation['category_id']}, which has no name")
        union(masks, names[annotation["category_id"]], _mask(annotation["segmentation"], frame))
    reading.add(frame, masks, looked_at=is_yes(image.get("looked_at")), file=file)


def _mask(segmentation: Any, frame: SelectedFrame) -> Mask:
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [frame.height, frame.width]:
            height, width = segmentation["size"]
            raise ValueError(f"a mask is {width}x{height}, its image {frame.width}x{frame.height}")
        counts = segmentation["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else counts
        return of_runs(runs, frame.height * frame.width).reshape(frame.height, frame.width, order="F")
    mask = np.zeros((frame.height, frame.width), np.bool_)
    if not segmentation:
        raise ValueError("an annotation has an empty segmentation, only a box; draw masks or polygons")
    for polygon in segmentation:
        if len(polygon) % 2:
            raise ValueError("a polygon has an odd number of coordinates")
        mask |= fill_by_edges(
            points_of(list(zip(polygon[::2], polygon[1::2], strict=True))), frame.height, frame.width
        )
    return mask


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's packed text. Raises ValueError.

    Each is written in groups of five bits, the lowest first, as a character from '0' on; 32 says that another
    group follows, 16 in the last one that the number is negative. From the fourth on it is the difference to
    the one before the previous one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift >= 5 * _MAX_DIGITS:
            raise ValueError("its packed run lengths are damaged")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its packed run lengths break off")
    return runs
