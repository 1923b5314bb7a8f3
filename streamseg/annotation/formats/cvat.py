"""CVAT for images 1.1: one XML file. https://docs.cvat.ai/docs/manual/advanced/xml_format/

A mask is a box and the lengths of alternating runs inside it, row by row, the first of background. Polygons
count from the first pixel's edge. A tag of the image says that the frame was looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from streamseg.annotation.formats.reading import MAX_BYTES, Reading, union
from streamseg.annotation.formats.shapes import (
    box_of,
    fill_by_edges,
    of_runs,
    pasted,
    points_of,
    runs_of,
    whole_box,
)
from streamseg.annotation.frames import STRUCTURES, Draft, Review, SelectedFrame
from streamseg.core.files import read_file, write_text, write_whole
from streamseg.core.numbers import read_decimal, read_integer
from streamseg.core.types import Mask

FILE = "annotations.xml"
LABELS = "cvat-labels.json"
"""Labels of a task, to be pasted into the "raw" tab of CVAT's label constructor."""


def write(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write ``annotations.xml`` and the labels of a task, ``cvat-labels.json``. Raises SinkError."""
    kinds = {**dict.fromkeys(STRUCTURES, "mask"), str(Review.LOOKED_AT): "tag"}
    raw = [{"name": name, "type": kind, "attributes": []} for name, kind in kinds.items()]
    write_text(folder / LABELS, json.dumps(raw, indent=1) + "\n")
    root = Xml.Element("annotations")
    Xml.SubElement(root, "version").text = "1.1"
    labels = Xml.SubElement(Xml.SubElement(Xml.SubElement(root, "meta"), "task"), "labels")
    for name, kind in kinds.items():
        label = Xml.SubElement(labels, "label")
        Xml.SubElement(label, "name").text = name
        Xml.SubElement(label, "type").text = kind
    for number, draft in enumerate(drafts):
        frame = draft.frame
        image = Xml.SubElement(
            root,
            "image",
            id=str(number),
            name=Path(frame.image).name,
            width=str(frame.width),
            height=str(frame.height),
        )
        for structure, mask in draft.masks.items():
            if mask.any():
                left, top, width, height = box_of(mask)
                runs = runs_of(mask[top : top + height, left : left + width].ravel())
                Xml.SubElement(
                    image,
                    "mask",
                    label=structure,
                    source="auto",
                    occluded="0",
                    rle=", ".join(map(str, runs)),
                    left=str(left),
                    top=str(top),
                    width=str(width),
                    height=str(height),
                    z_order="0",
                )
    Xml.indent(root)
    write_whole(folder / FILE, Xml.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def read(path: Path, reading: Reading) -> None:
    """Read the XML file, or ``annotations.xml`` of a folder."""
    file = path / FILE if path.is_dir() else path
    with reading.problem(file):
        for image in _root(file).iter("image"):
            with reading.problem(file, f"image {image.get('name')!r}"):
                _read_image(image, file, reading)


def _root(file: Path) -> Xml.Element:
    data = read_file(file, MAX_BYTES)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it declares a document type or entities, which CVAT does not write")
    try:
        root = Xml.fromstring(data)
    except Xml.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from error
    if root.tag != "annotations":
        raise ValueError("it is not CVAT's: its root is not 'annotations'")
    if root.find("track") is not None:
        raise ValueError("it is 'CVAT for video'; export 'CVAT for images 1.1'")
    return root


def _read_image(image: Xml.Element, file: Path, reading: Reading) -> None:
    frame = reading.frame(image.get("name"))
    size = (read_integer(image.get(side, ""), 0, 1 << 30) for side in ("width", "height"))
    reading.check_size(frame, *size)
    masks: dict[str, Mask] = {}
    looked_at = False
    for shape in image:
        label = shape.get("label")
        if shape.tag == "tag":
            looked_at = looked_at or label == Review.LOOKED_AT
        else:
            union(masks, label, _mask(shape, frame))
    reading.add(frame, masks, looked_at=looked_at, file=file)


def _mask(shape: Xml.Element, frame: SelectedFrame) -> Mask:
    if shape.tag == "mask":
        numbers = [
            read_integer(shape.get(name, ""), 0, 1 << 30) for name in ("left", "top", "width", "height")
        ]
        left, top, width, height = whole_box(numbers, frame.height, frame.width)
        runs = [read_integer(run, 0, 1 << 30) for run in shape.get("rle", "").split(",")]
        part = of_runs(runs, width * height).reshape(height, width)
        return pasted(part, left, top, frame.height, frame.width)
    if shape.tag == "box":
        x1, y1, x2, y2 = (_number(shape.get(name, "")) for name in ("xtl", "ytl", "xbr", "ybr"))
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    elif shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair.strip()]
        corners = [tuple(_number(number) for number in pair) for pair in pairs]  # type: ignore[misc]
    else:
        raise ValueError(f"a {shape.tag!r} has no area that can be read; draw masks or polygons")
    return fill_by_edges(points_of(corners), frame.height, frame.width)


def _number(text: str) -> float | None:
    return read_decimal(text, -1e9, 1e9)
