"""nnU-Net 2, images of one channel: ``imagesTr/X_0000.png``, ``labelsTr/X.png``, ``dataset.json``.

https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md. The table ``frames.csv`` says
which frames were looked at: the format has no place for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from streamseg.annotation.formats.reading import Reading, read_document
from streamseg.annotation.frames import STRUCTURES, Draft, class_mask, write_mask
from streamseg.core.files import natural_key, write_text
from streamseg.core.numbers import whole_number
from streamseg.datasets.reader import read_indices

FILE = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"


def write(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write ``labelsTr/`` and ``dataset.json``; the images lie in ``imagesTr/`` already. Raises SinkError."""
    for draft in drafts:
        shape = draft.frame.height, draft.frame.width
        write_mask(folder / LABELS / f"{draft.frame.name}.png", class_mask(draft.masks, shape))
    document = {
        "channel_names": {"0": "ultrasound"},
        "labels": {"background": 0, **STRUCTURES},
        "numTraining": len(drafts),
        "file_ending": ".png",
    }
    write_text(folder / FILE, json.dumps(document, indent=1) + "\n")


def read(path: Path, reading: Reading) -> None:
    """Read the folder's labels."""
    with reading.problem(path / FILE):
        document = read_document(path / FILE)
        indices = {whole_number(index, 0, 255): name for name, index in document["labels"].items()}
        if None in indices:
            raise ValueError("a label is not a number from 0 to 255; labels of regions are not read")
        for file in sorted((path / LABELS).glob("*.png"), key=natural_key):
            with reading.problem(file):
                frame = reading.frame(file.name)
                classes = read_indices(file)
                reading.check_size(frame, classes.shape[1], classes.shape[0])
                masks = {name: classes == index for index, name in indices.items() if index}
                if unknown := set(classes.ravel().tolist()) - indices.keys():
                    raise ValueError(f"it holds the values {sorted(unknown)[:8]}, which dataset.json lacks")
                reading.add(frame, masks, looked_at=False, file=file)
