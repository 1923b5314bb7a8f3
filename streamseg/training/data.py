"""Prepares training images, decoded once, and hands them out in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
from torch import Tensor

from streamseg.core.errors import DataError
from streamseg.core.geometry import Letterbox
from streamseg.core.types import InputSpec
from streamseg.datasets import Dataset
from streamseg.datasets import near_duplicates as twins
from streamseg.datasets.near_duplicates import NearDuplicates, find_near_duplicates
from streamseg.datasets.reader import Sample
from streamseg.segmentation.preprocess import letterbox_for
from streamseg.training.cache import Batch, Cache, Planes, Prepared, load_or_build

__all__ = ["Batch", "Cache", "cache_samples", "load_batches", "near_duplicates_of"]

LARGE_BYTES = 256 * 2**20
"""A cache of more bytes is memory-mapped, also where no folder was given."""
AHEAD = 3
"""Batches that are prepared while the net works on one."""


def load_batches(cache: Cache, plan: Sequence[Tensor], device: torch.device | str) -> Iterator[Batch]:
    """The batches of a plan (each int64 (N,), rows of the cache) on a device (CPU or CUDA), in order.

    A thread prepares up to AHEAD batches while the consumer works; to a GPU it sends pinned bytes, which
    become float32 there. What it raises arrives at the consumer, and an iterator that is dropped half way
    stops it.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())  # each thread has a current one of its own
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for rows in plan:
                pending.append(pool.submit(_load, cache, rows, device))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _load(cache: Cache, rows: Tensor, device: torch.device) -> Batch:
    if device.type == "cpu":
        return cache.take(rows)
    # pinning opens the current GPU; in a new thread that is the first one, which may be another process's
    with torch.cuda.device(device):
        images, labels, known, rows = (
            part.pin_memory().to(device, non_blocking=True) for part in cache.gather(rows)
        )
        return Batch(images.float() / 255, labels.float(), known, rows)


def cache_samples(
    samples: Iterable[Sample],
    spec: InputSpec,
    *,
    folder: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Cache:
    """Letterbox samples to the spec's size, exactly as :mod:`streamseg.segmentation.preprocess` does at
    inference.

    A :class:`Dataset` is kept in a folder and memory-mapped where ``folder`` is given or the cache exceeds
    LARGE_BYTES (then below the user's cache folder): the next call finds it there, unless a file's name, size
    or time, or the input size, has changed. A damaged one is made anew. Other samples are held in memory.
    ``advance`` is called once per decoded sample.

    Raises DataError (no samples, or a bad one) and SinkError (the folder cannot be written).
    """
    if isinstance(samples, Dataset) and len(samples):
        if folder is None and len(samples) * 3 * spec.height * spec.width > LARGE_BYTES:
            folder = platformdirs.user_cache_path("streamseg") / "images"
        if folder is not None:
            return load_or_build(samples, spec, folder, _prepare(samples, spec, advance))
    prepared = list(_prepare(samples, spec, advance))
    if not prepared:
        raise DataError("there are no samples to prepare; the data set or the part of it is empty")
    names, images, labels, known = zip(*prepared, strict=True)
    return Cache(
        torch.from_numpy(np.stack(images))[:, None],
        torch.from_numpy(np.stack(labels)),
        torch.tensor(known),
        names,
    )


def near_duplicates_of(
    data: Dataset, *, folder: Path | None = None, advance: Callable[[], None] = lambda: None
) -> NearDuplicates:
    """Near-identical images of a data set, compared at a size of their own, whatever a net's input may be.

    ``folder`` and ``advance`` as of :func:`cache_samples`; so are the errors.
    """
    spec = InputSpec(twins.HEIGHT, twins.WIDTH, mean=0.0, std=1.0, threshold=0.5)
    cache = cache_samples(data, spec, folder=folder, advance=advance)
    return find_near_duplicates(cache.images[:, 0].numpy(), cache.labels[:, 0].numpy())


def _prepare(samples: Iterable[Sample], spec: InputSpec, advance: Callable[[], None]) -> Iterator[Prepared]:
    for sample in samples:
        box = letterbox_for(sample.image, spec)
        vessel = np.zeros_like(sample.nerve) if sample.vessel is None else sample.vessel
        labels = np.stack([_shrink(box, mask) for mask in (sample.nerve, vessel)])
        yield sample.name, box.apply(sample.image), labels, sample.vessel is not None
        advance()


def _shrink(box: Letterbox, mask: npt.NDArray[np.bool_]) -> Planes:
    """A mask in tensor pixels: those that are mask for at least half their area."""
    return (box.apply(mask.astype(np.uint8) * 255) >= 128).astype(np.uint8)
