"""Compares what an engine finds with labels, one image at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from streamseg.datasets.reader import Sample
from streamseg.metrics import Confusion
from streamseg.segment import Segmenter
from streamseg.types import Frame


def confusions(samples: Iterable[Sample], segmenter: Segmenter) -> Iterator[tuple[str, Confusion]]:
    """Name and confusion count, in the image's own pixels, of each sample. Raises DataError for a bad one."""
    for index, sample in enumerate(samples):
        found = segmenter.segment(Frame(sample.image, index, time.monotonic_ns()))
        yield sample.name, Confusion.count(found.mask, sample.nerve)
