"""The data of a replication: a folder of labelled images, or phantoms drawn for it, split into folds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.core.types import Say
from streamseg.datasets import Dataset
from streamseg.datasets.phantoms import open_or_draw, phantom_count
from streamseg.datasets.split import Fold, folds
from streamseg.reproduction.plan import ReplicationPlan
from streamseg.training.cache import Cache, prepare_dataset


@dataclass(frozen=True, slots=True, repr=False)
class ReplicationData:
    """Labelled images, decoded and split."""

    samples: Dataset
    cache: Cache
    folds: tuple[Fold, ...]
    facts: dict[str, Any]
    """For the report: name, kind, images, with_nerve, image_size (of the first image), subjects, fingerprint,
    split, twins, contradictions."""


def data_name(data: str) -> str:
    """A data set's name in a report: its folder's name, or ``phantom-<N>``. Raises UsageError."""
    count = phantom_count(data)
    return Path(data).resolve().name if count is None else f"phantom-{count}"


def gather(
    data: str, plan: ReplicationPlan, out: Path, *, say: Say, advance: Callable[[], None]
) -> ReplicationData:
    """Read the data and split it. ``advance`` is called for every image read.

    ``data`` is a folder, or ``phantom`` or ``phantom:N``, whose images are drawn once into ``out/phantom``.
    Raises UsageError, DataError for bad data or too few images for the folds, SinkError.
    """
    samples = open_or_draw(data, out, say=say)
    cache, near_duplicates = prepare_dataset(samples, plan.config.spec, advance=advance)
    nerve = cache.labels[:, 0].numpy()
    names = [entry.name for entry in samples.entries]
    subjects = {entry.subject for entry in samples.entries} - {None}
    split = folds(samples, plan.folds, seed=plan.config.seed, near_duplicates=near_duplicates.groups)
    facts = {
        "name": data_name(data),
        "kind": "folder" if phantom_count(data) is None else "phantom",
        "images": len(samples),
        "with_nerve": int(nerve.any(axis=(1, 2)).sum()),
        "image_size": "x".join(str(side) for side in samples[0].image.shape[::-1]),
        "subjects": len(subjects) or None,
        "fingerprint": cache.fingerprint,
        "split": hashlib.sha256(repr([part.validation for part in split]).encode()).hexdigest(),
        "twins": [[names[row] for row in group] for group in near_duplicates.groups],
        "contradictions": [[names[a], names[b]] for a, b in near_duplicates.contradictions],
    }
    return ReplicationData(samples, cache, split, facts)
