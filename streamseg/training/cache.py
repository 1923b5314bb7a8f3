"""Training images at the net's input size, as bytes, and the batches taken from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

Gathered = tuple[Tensor, Tensor, Tensor, Tensor]
"""Images, labels (both uint8), vessel_known and rows of some samples."""


@dataclass(frozen=True)
class Batch:
    """Some samples, all tensors on one device."""

    images: Tensor
    """float32 (N, 1, H, W), 0..1."""
    labels: Tensor
    """float32 (N, 2, H, W) of 0/1: nerve, vessel."""
    vessel_known: Tensor
    """bool (N,): whether the vessel plane means anything."""
    rows: Tensor
    """int64 (N,): where the samples lie in their cache."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(tensor.to(device) for tensor in self._tensors()))

    def joined(self, other: Batch) -> Batch:
        """This batch and then another one, which is on the same device."""
        return Batch(*(torch.cat(pair) for pair in zip(self._tensors(), other._tensors(), strict=True)))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images, self.labels, self.vessel_known, self.rows


@dataclass(frozen=True)
class Cache:
    """Letterboxed images and labels, uint8. Nothing may write to the tensors: they may lie on disk."""

    images: Tensor
    """uint8 (N, 1, H, W), 0..255."""
    labels: Tensor
    """uint8 (N, 2, H, W) of 0/1: nerve, vessel."""
    vessel_known: Tensor
    """bool (N,): whether the vessel plane means anything."""
    names: tuple[str, ...]
    """Names of the N samples."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> Batch:
        """The samples of some rows (int64 (N,)), on the CPU."""
        images, labels, vessel_known, rows = self.gather(rows)
        # numpy works in this one thread, where torch would start a second pool of threads beside the net's
        return Batch(
            torch.from_numpy(np.divide(images.numpy(), np.float32(255), dtype=np.float32)),
            torch.from_numpy(labels.numpy().astype(np.float32)),
            vessel_known,
            rows,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256, 64 hex digits, of names, images and labels: the same wherever they were read."""
        digest = hashlib.sha256(
            json.dumps([self.names, self.vessel_known.tolist(), *self.images.shape]).encode()
        )
        for planes in (self.images, self.labels):
            digest.update(planes.numpy().data)
        return digest.hexdigest()

    def gather(self, rows: Tensor) -> Gathered:
        """Images, labels (uint8), vessel_known, and the rows themselves, copied. Reads no others."""
        images, labels = (
            torch.from_numpy(planes.numpy()[rows.numpy()]) for planes in (self.images, self.labels)
        )
        return images, labels, self.vessel_known[rows], rows
