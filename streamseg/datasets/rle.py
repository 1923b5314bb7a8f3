"""The run-length encoding of the competition "Ultrasound Nerve Segmentation".

Pixels are numbered from 1, down the first column, then down the second, and so on. A mask is written as pairs
"start length", separated by blanks, in ascending order; an empty mask as the empty text.
"""

from __future__ import annotations

import numpy as np

from streamseg.core.types import Mask


def encode(mask: Mask) -> str:
    """The runs of a bool mask (H, W), each as long as possible."""
    column_by_column = np.asarray(mask, np.bool_).ravel(order="F")
    edges = np.flatnonzero(np.diff(column_by_column, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))
