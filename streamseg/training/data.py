"""The data of a training run, and the batches taken from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from streamseg.datasets.split import Fold
from streamseg.training.augment import sample_seed
from streamseg.training.cache import Cache

AHEAD = 3
"""Batches that are prepared while the net works on one."""
Change = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Changes the images and labels (both uint8) of a plan's batch, given its number in the plan."""


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and is validated on."""

    cache: Cache
    """All labelled images."""
    fold: Fold
    """Which of them train the net and which validate it."""
    phantom: Cache | None = None
    """Phantom images, of which some are added to each step."""
    absent: Cache | None = None
    """Images without nerve, of which some are added to each step."""
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    """What teachers find in the ``image`` and the ``absent`` (uint8 (N, planes, H, W), in 255ths) if they see
    each image once; empty if there are none, or if they see the images of each step."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits of images, labels and split: a run resumes only with the same data."""
        fold, phantom = self.fold, self.phantom.fingerprint if self.phantom else ""
        parts = f"{self.cache.fingerprint}/{fold.train}/{fold.validation}/{phantom}"
        if self.absent is not None:
            parts += f"/{self.absent.fingerprint}"
        return f"{sample_seed(parts):016x}"


@dataclass(frozen=True)
class Batch:
    """Some samples, all tensors on one device."""

    images: Tensor
    """float32 (N, 1, H, W), 0..1."""
    labels: Tensor
    """float32 (N, 2, H, W) of 0/1: nerve, vessel; then the teachers' targets, if each image has some."""
    vessel_known: Tensor
    """bool (N,): whether vessels are labelled."""
    rows: Tensor
    """int64 (N,): the samples' rows in their cache."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(tensor.to(device) for tensor in self._tensors()))

    def joined(self, other: Batch) -> Batch:
        """This batch followed by another one on the same device."""
        return Batch(*(torch.cat(pair) for pair in zip(self._tensors(), other._tensors(), strict=True)))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images, self.labels, self.vessel_known, self.rows


def take(cache: Cache, rows: Tensor) -> Batch:
    """The samples of some rows (int64 (N,)) of a cache, on the CPU."""
    return _scaled(*cache.gather(rows), rows)


def _scaled(images: Tensor, labels: Tensor, vessel_known: Tensor, rows: Tensor) -> Batch:
    # numpy works in this one thread, whereas torch would start a second pool of threads beside the net's
    return Batch(
        torch.from_numpy(np.divide(images.numpy(), np.float32(255), dtype=np.float32)),
        torch.from_numpy(labels.numpy().astype(np.float32)),
        vessel_known,
        rows,
    )


def load_batches(
    cache: Cache, plan: Sequence[Tensor], device: torch.device | str, change: Change | None = None
) -> Iterator[Batch]:
    """The batches of a plan (each int64 (N,), rows of the cache) on a device (CPU or CUDA), in order.

    A thread prepares up to AHEAD batches, changed by ``change``, while the consumer works; to a GPU it sends
    pinned bytes, which become float32 there. Its exceptions are raised in the consumer, and an iterator that
    is dropped half way stops it.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())  # each thread has a current one of its own
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for number, rows in enumerate(plan):
                pending.append(pool.submit(_load, cache, rows, device, number, change))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _load(cache: Cache, rows: Tensor, device: torch.device, number: int, change: Change | None) -> Batch:
    images, labels, known = cache.gather(rows)
    if change is not None:
        images, labels = change(number, images, labels)
    if device.type == "cpu":
        return _scaled(images, labels, known, rows)
    # pinning opens the current GPU; in a new thread that is the first one, which may be another process's
    with torch.cuda.device(device):
        images, labels, known, rows = (
            part.pin_memory().to(device, non_blocking=True) for part in (images, labels, known, rows)
        )
        return Batch(images.float() / 255, labels.float(), known, rows)
