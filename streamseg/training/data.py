"""Training images held in memory at the net's input size, decoded once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamseg.datasets.reader import Sample
from streamseg.geometry import Letterbox
from streamseg.phantom import render_still
from streamseg.preprocess import letterbox_for
from streamseg.types import InputSpec


@dataclass(frozen=True)
class Cache:
    """Letterboxed images and labels, uint8."""

    images: Tensor
    """(N, 1, H, W), 0..255."""
    labels: Tensor
    """(N, 2, H, W) of 0/1: nerve, vessel."""
    vessel_known: Tensor
    """(N,) bool: whether the vessel plane means anything."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images in 0..1, labels (both float32), and vessel_known of some samples."""
        return self.images[indices].float() / 255, self.labels[indices].float(), self.vessel_known[indices]


def cache_samples(samples: Iterable[Sample], spec: InputSpec) -> Cache:
    """Letterbox samples to the spec's size, exactly as :mod:`streamseg.preprocess` does at inference."""
    images, labels, known = [], [], []
    for sample in samples:
        box = letterbox_for(sample.image, spec)
        vessel = np.zeros_like(sample.nerve) if sample.vessel is None else sample.vessel
        images.append(box.apply(sample.image))
        labels.append([_shrink(box, mask) for mask in (sample.nerve, vessel)])
        known.append(sample.vessel is not None)
    return Cache(
        torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.array(labels)), torch.tensor(known)
    )


def _shrink(
    box: Letterbox, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A mask in tensor pixels: those that are mask for at least half their area."""
    return (box.apply(mask.astype(np.uint8) * 255) >= 128).astype(np.uint8)


def phantom_samples(count: int, seed: int) -> Iterable[Sample]:
    """Phantom stills, a little more than half of them without nerve."""
    for number in range(count):
        still = render_still(seed + number)
        yield Sample(f"phantom-{seed + number}", still.image, still.nerve, still.vessel)
