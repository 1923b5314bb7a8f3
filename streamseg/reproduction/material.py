"""The data of a replication: a folder of labelled images, or phantoms drawn for it, split into folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg.datasets import Dataset, open_dataset
from streamseg.datasets.split import Fold, folds
from streamseg.datasets.twins import find_twins
from streamseg.errors import UsageError
from streamseg.reproduction.files import write_bytes
from streamseg.reproduction.plan import Plan
from streamseg.training.data import Cache, cache_samples, phantom_samples

PHANTOMS = 200
"""Phantoms drawn where no number is given."""
PHANTOM_SEED = 80_000_000
"""First phantom's seed; far from those of the default weights' training and test."""


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """Labelled images, decoded and split."""

    data: Dataset
    cache: Cache
    folds: tuple[Fold, ...]
    facts: dict[str, Any]
    """For the report: name, kind, images, with_nerve, subjects, fingerprint, twins and contradictions."""


def data_name(data: str) -> str:
    """What a data set is called in a report: its folder's name, or ``phantom-<N>``. Raises UsageError."""
    count = _phantoms(data)
    return Path(data).resolve().name if count is None else f"phantom-{count}"


def gather(
    data: str, plan: Plan, out: Path, *, say: Callable[[str], None], advance: Callable[[], None]
) -> Material:
    """Read the data and split it. ``advance`` is called for every image read.

    ``data`` is a folder, or ``phantom`` or ``phantom:N``, whose pictures are drawn once into ``out/phantom``.
    Raises UsageError, DataError for bad data or too few images for the folds, SinkError.
    """
    count = _phantoms(data)
    if count is not None:
        _draw_phantoms(out / "phantom", count, say)
    samples = open_dataset(data if count is None else out / "phantom")
    cache = cache_samples(samples, plan.config.spec, advance=advance)
    nerve = cache.labels[:, 0].numpy()
    twins = find_twins(cache.images[:, 0].numpy(), nerve)
    names = [entry.name for entry in samples.entries]
    subjects = {entry.subject for entry in samples.entries} - {None}
    facts = {
        "name": data_name(data),
        "kind": "phantom" if count is not None else "folder",
        "images": len(samples),
        "with_nerve": int(nerve.any(axis=(1, 2)).sum()),
        "subjects": len(subjects) or None,
        "fingerprint": cache.fingerprint,
        "twins": [[names[row] for row in group] for group in twins.groups],
        "contradictions": [[names[a], names[b]] for a, b in twins.contradictions],
    }
    split = folds(samples, plan.folds, seed=plan.config.seed, twins=twins.groups)
    return Material(samples, cache, split, facts)


def _phantoms(data: str) -> int | None:
    """How many phantoms are asked for; None where the data is a folder."""
    word, colon, number = data.partition(":")
    if word != "phantom":
        return None
    if not colon:
        return PHANTOMS
    if not number.isascii() or not number.isdigit() or int(number) < 2:
        raise UsageError(f"data {data!r} is no number of phantoms; give phantom:N with N of 2 or more")
    return int(number)


def _draw_phantoms(folder: Path, count: int, say: Callable[[str], None]) -> None:
    """Draw the phantoms that are not there yet, as images and masks (0, 1 nerve, 2 vessel)."""
    for number in range(count):
        image, mask = (folder / part / f"{number:05d}.png" for part in ("images", "masks"))
        if image.exists() and mask.exists():
            continue
        if number % 50 == 0:
            say(f"drawing phantom {number + 1} of {count}")
        (sample,) = phantom_samples(1, seed=PHANTOM_SEED + number)
        classes = sample.nerve.astype(np.uint8)
        if sample.vessel is not None:
            classes[sample.vessel & ~sample.nerve] = 2
        for path, picture in ((mask, classes), (image, sample.image)):
            write_bytes(path, cv2.imencode(".png", picture)[1].tobytes())
