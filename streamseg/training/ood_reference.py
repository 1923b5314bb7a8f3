"""Fits the reference of the OOD detector: the ellipsoid of images like the training data.

The images are those that a net was trained on, under the settings that augmentation simulates: each counts as
it is and in copies with other gain, gamma, zoom, side, softness and noise; for a net that was trained with
restyled images (:mod:`streamseg.training.restyle`) in restyled copies, too. Phantom stills and video frames
count as much as real images. The limit is cross-validated: each block of neighbours is measured with an
ellipsoid that was fitted without it, and the limit leaves a stated share of these outside.
See :mod:`streamseg.segmentation.ood_detector`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.errors import DataError
from streamseg.core.types import Grey, Image, InputSpec
from streamseg.segmentation.ood_detector import FEATURES, MIN_SIDE, features, write_reference
from streamseg.segmentation.preprocess import unpadded
from streamseg.training.augment import sample_seed
from streamseg.training.restyle import restyle

FALSE_ALARMS = 0.015
"""Share of left-out images, their copies included, that lie beyond the limit."""
BLOCKS = 8
"""Blocks of neighbours left out in turn: neighbours may be of one volunteer or one video."""
SHRINKAGE = 0.1
"""Share by which covariances shrink towards 0, because there are fewer images than a full matrix needs."""
_FLOOR = 1e-6
"""Minimum variance: a feature that never varies must not divide by 0."""

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OodReference:
    """A fitted ellipsoid."""

    text: str
    """For :attr:`streamseg.core.spec.OutputCalibration.familiar`."""
    alarms: tuple[float, ...]
    """Share of each group's images, without copies, that lie beyond the limit when left out of the fit."""


def feature_rows(
    images: Iterable[Image], spec: InputSpec, copies: int, seed: int = 0, *, restyled: int = 0
) -> Figures:
    """Features of images, the image itself first, then of ``copies`` under other settings, and of
    ``restyled`` copies as by other machines: float64 (n, 1 + copies + restyled, 26).

    Images are uint8 (H, W) or (H, W, 3) BGR. Those too small for the features are left out.
    """
    rng = np.random.default_rng(seed)
    contents = [unpadded(image, spec).copy() for image in images]
    contents = [content for content in contents if min(content.shape) >= MIN_SIDE]
    rows = []
    for number, content in enumerate(contents):
        varied = [vary(content, rng) for _ in range(copies)]
        no_labels = np.zeros((0, *content.shape), np.uint8)
        for copy in range(restyled):
            varied.append(restyle(content, no_labels, sample_seed(seed, f"{number} {copy}"), contents)[0])
        rows.append([features(content), *map(features, varied)])
    return np.array(rows).reshape(len(rows), 1 + copies + restyled, len(FEATURES))


def vary(content: Grey, rng: np.random.Generator) -> Grey:
    """An image under other settings, in its own size: gain, gamma, zoom, side, and softness or noise."""
    height, width = content.shape
    zoom = rng.uniform(0.82, 1.0)
    rows, columns = max(1, round(height * zoom)), max(1, round(width * zoom))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    part = content[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    view = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_LINEAR)
    grey = np.asarray(view, np.float32) / 255
    grey = grey ** np.float32(np.exp(rng.uniform(-0.18, 0.18))) * np.float32(np.exp(rng.uniform(-0.35, 0.35)))
    if rng.random() < 0.5:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.05, 0.6)), np.float32)
    else:
        grey += rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.024))
    return (np.clip(grey, 0, 1) * 255).astype(np.uint8)


def fit_ood_reference(groups: Sequence[Figures], *, false_alarms: float = FALSE_ALARMS) -> OodReference:
    """The ellipsoid of some groups of images, each as from :func:`feature_rows`, in file order.

    At most ``false_alarms`` of each group's left-out images and copies lie beyond the limit. Raises DataError
    for a group of fewer images than there are blocks.
    """
    if any(len(group) < BLOCKS for group in groups):
        raise DataError(
            f"too few images for the OOD detector's reference, {[len(group) for group in groups]} by group; "
            f"give at least {BLOCKS} each"
        )
    left_out: list[list[Figures]] = [[] for _ in groups]
    for block in range(BLOCKS):
        parts = [np.array_split(np.arange(len(group)), BLOCKS)[block] for group in groups]
        rest = [np.delete(group, rows, axis=0) for group, rows in zip(groups, parts, strict=True)]
        centre, factor = _ellipsoid(rest)
        for found, group, rows in zip(left_out, groups, parts, strict=True):
            found.append(np.linalg.norm((group[rows] - centre) @ factor, axis=-1))
    distances = [np.concatenate(found) for found in left_out]
    limit = max(float(np.quantile(found, 1 - false_alarms)) for found in distances)
    centre, factor = _ellipsoid(groups)
    return OodReference(
        write_reference(centre, factor / limit),
        tuple(float((found[:, 0] > limit).mean()) for found in distances),
    )


def _ellipsoid(groups: Sequence[Figures]) -> tuple[Figures, Figures]:
    """Centre and lower triangular factor of all images and copies; all groups weigh the same."""
    flat = [group.reshape(-1, group.shape[-1]) for group in groups]
    centre: Figures = np.mean([group.mean(axis=0) for group in flat], axis=0)
    spread = np.mean([(group - centre).T @ (group - centre) / len(group) for group in flat], axis=0)
    spread *= 1 - SHRINKAGE
    diagonal = np.diag_indices(len(spread))
    spread[diagonal] = spread[diagonal] / (1 - SHRINKAGE) + _FLOOR
    factor = np.asarray(np.linalg.cholesky(np.linalg.inv(spread)), np.float64)
    return centre, factor
