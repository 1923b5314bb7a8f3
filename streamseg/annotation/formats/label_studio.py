"""Label Studio: one JSON file of tasks. https://labelstud.io/guide/task_format

Drafts are predictions, and what a person submitted are annotations: so a submitted task without any region
says "looked at, nothing there". Brush masks are packed by thi.ng's rle-pack, polygons are in percent of the
image from its edge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.annotation.formats.reading import Reading, read_document, union
from streamseg.annotation.formats.shapes import fill_by_edges, points_of
from streamseg.annotation.frames import STRUCTURES, Draft, SelectedFrame
from streamseg.core.files import write_text
from streamseg.core.types import Mask

FILE = "tasks.json"
CONFIG = "label-config.xml"
_CHANNELS = 4
"""Packed are red, green, blue and alpha of every pixel; the mask is the alpha."""
_RUN_BITS = (3, 4, 8, 16)
"""Widths of a run's length, of which each chunk names one; those that Label Studio itself uses."""


def write(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write ``tasks.json`` and the labelling interface, ``label-config.xml``. Raises SinkError."""
    tasks = [
        {
            "data": {
                "image": f"/data/local-files/?d={folder.resolve().name.removesuffix('.partial')}/"
                f"{draft.frame.image}",
                "frame": draft.frame.name,
            },
            "predictions": [
                {
                    "model_version": "streamseg",
                    "result": [
                        _region(structure, mask) for structure, mask in draft.masks.items() if mask.any()
                    ],
                }
            ],
        }
        for draft in drafts
    ]
    write_text(folder / FILE, json.dumps(tasks) + "\n")
    values = "".join(f'<Label value="{structure}"/>' for structure in STRUCTURES)
    write_text(
        folder / CONFIG,
        f'<View><Image name="image" value="$image" zoom="true"/>'
        f'<BrushLabels name="structure" toName="image">{values}</BrushLabels></View>\n',
    )


def _region(structure: str, mask: Mask) -> dict[str, Any]:
    height, width = mask.shape
    return {
        "id": structure,
        "from_name": "structure",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": packed(mask), "brushlabels": [structure]},
    }


def read(path: Path, reading: Reading) -> None:
    """Read the exported JSON file, or ``tasks.json`` of a folder."""
    file = path / FILE if path.is_dir() else path
    with reading.problem(file):
        document = read_document(file)
        if not isinstance(document, list):
            raise ValueError("it is not a list of tasks; export 'JSON' from Label Studio")
        for number, task in enumerate(document, start=1):
            with reading.problem(file, f"task {task.get('id', number)}"):
                _read_task(task, file, reading)


def _read_task(task: dict[str, Any], file: Path, reading: Reading) -> None:
    data = task["data"]
    own = data.get("frame")
    frame = reading.frames[own] if own in reading.frames else reading.frame(data["image"])
    submitted = [entry for entry in task.get("annotations", ()) if not entry.get("was_cancelled")]
    if not submitted:
        return
    masks: dict[str, Mask] = {}
    for region in submitted[-1]["result"]:
        reading.check_size(frame, region.get("original_width"), region.get("original_height"))
        if region.get("image_rotation") not in (0, None):
            raise ValueError("the image was rotated in Label Studio; turn it back")
        value = region["value"]
        part = _mask(region.get("type"), value, frame)
        for label in value[region["type"]]:
            union(masks, label, part)
    reading.add(frame, masks, looked_at=True, file=file)


def _mask(kind: object, value: dict[str, Any], frame: SelectedFrame) -> Mask:
    if kind == "brushlabels":
        if value.get("format") != "rle":
            raise ValueError(f"a brush region has the format {value.get('format')!r}, not 'rle'")
        return unpacked(value["rle"], frame.height, frame.width)
    if kind == "polygonlabels":
        scale = np.array([frame.width, frame.height]) / 100
        return fill_by_edges(points_of(value["points"]) * scale, frame.height, frame.width)
    raise ValueError(f"a region of type {kind!r} has no area that can be read; use brush or polygon labels")


def packed(mask: Mask) -> list[int]:
    """A mask as the bytes of Label Studio's brush regions."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, _CHANNELS)
    bits = [f"{len(values):032b}", f"{8 - 1:05b}", *(f"{width - 1:04b}" for width in _RUN_BITS)]
    starts = np.flatnonzero(np.diff(values, prepend=values[0] ^ 255))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True):
        left = end - start
        while left:
            length = min(left, 1 << _RUN_BITS[-1])
            place = next(i for i, width in enumerate(_RUN_BITS) if length <= 1 << width)
            bits.append(f"1{place:02b}{length - 1:0{_RUN_BITS[place]}b}{int(values[start]):08b}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def unpacked(data: Any, height: int, width: int) -> Mask:
    """Inverse of :func:`packed`, also of what Label Studio packs. Raises ValueError."""
    try:
        bits = "".join(f"{byte:08b}" for byte in bytes(data))
    except (TypeError, ValueError) as error:
        raise ValueError("its packed mask is not a list of bytes") from error
    reader = _BitReader(bits)
    count, word = reader.take(32), reader.take(5) + 1
    if count != height * width * _CHANNELS:
        raise ValueError(f"a mask has {count // _CHANNELS} pixels, its image {width}x{height}")
    widths = [reader.take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint32)
    at = 0
    for same, length in _chunks(reader, widths, count):
        if same:
            values[at : at + length] = reader.take(word)
        else:
            for place in range(at, at + length):
                values[place] = reader.take(word)
        at += length
    return np.asarray(values[_CHANNELS - 1 :: _CHANNELS] > 0).reshape(height, width)


def _chunks(reader: _BitReader, widths: Sequence[int], count: int) -> Iterator[tuple[bool, int]]:
    """Whether a chunk repeats one value, and its length, until ``count`` values are covered."""
    done = 0
    while done < count:
        same = reader.take(1) == 1
        length = reader.take(widths[reader.take(2)]) + 1
        if done + length > count:
            raise ValueError("a packed mask is longer than its image")
        yield same, length
        done += length


class _BitReader:
    """Takes numbers of some bits each from text of zeros and ones."""

    def __init__(self, bits: str) -> None:
        self._bits, self._at = bits, 0

    def take(self, width: int) -> int:
        """Raises ValueError at the end."""
        part = self._bits[self._at : self._at + width]
        if len(part) < width:
            raise ValueError("a packed mask breaks off")
        self._at += width
        return int(part, 2)
