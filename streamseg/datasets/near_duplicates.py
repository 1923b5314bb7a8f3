"""Finds near-identical images, which no split may divide, and those whose masks contradict each other.

Two kinds are found. Consecutive frames, or an image saved twice with some noise: their thumbnails correlate.
And an image cropped again, slightly shifted or scaled: if thumbnails are similar, an image is registered to
its nearest neighbour, and the pixels are compared afterwards.

Images are compared by their detail, which is what varies within a sixteenth of their side: tissue at a given
depth is bright in every image of a probe, and all images have the black margins of letterboxing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.geometry import Letterbox
from streamseg.core.types import Grey, Mask

HEIGHT, WIDTH = 128, 160
"""The size, pixels, at which images are compared (:func:`reduced`)."""
SIDE = 32
"""Side of the square thumbnails, pixels; detail is what varies within two of them."""
SAME = 0.95
"""Thumbnails of at least this correlation are near-identical: frames 33 ms apart reach 0.97, different
images of one volunteer at most 0.93 (measured on phantom video and the regional-anaesthesia set)."""
SIMILAR = 0.5
"""Minimum correlation to register the nearest neighbour: an image cropped by a twentieth reaches 0.6."""
COARSE, FINE = 64, 128
"""Sides, pixels, of the squares in which images are registered."""
COARSE_SAME, FINE_SAME = 0.6, 0.9
"""Minimum correlation of detail after registration, at either size. At the fine one an image cropped again
reaches 0.92 if images have 96 pixels a side and 0.98 if they have 192; different ones stay below 0.81. At the
coarse one, which only saves time, they reach 0.68."""
MIN_DICE = 0.5
"""Masks of one image that overlap less contradict each other: most of the nerve in one is not nerve in the
other. Masks of one image by two annotators have 0.78 or more in the regional-anaesthesia set."""
COMPARED = 16
"""Each image's mask is compared with those of at most this many near-duplicates, the most similar: in a still
video all frames are."""
DARK = 4
"""Maximum grey level of the margin at an image's edges."""
BLOCK = 512
"""Rows of the correlation matrix that are held in memory at once."""

Pixels = npt.NDArray[np.float32]
Labels = npt.NDArray[np.generic]
IDENTITY = np.eye(2, 3, dtype=np.float32)


@dataclass(frozen=True)
class NearDuplicates:
    """Rows of near-identical images."""

    groups: tuple[tuple[int, ...], ...]
    """Two or more rows each, ascending and disjoint; each is near-identical to at least one other of them."""
    contradictions: tuple[tuple[int, int], ...]
    """Pairs of near-identical images of which one mask is empty and the other is not, or whose masks overlap
    by a Dice below MIN_DICE; ascending."""


def find_near_duplicates(images: npt.NDArray[np.uint8], masks: Labels) -> NearDuplicates:
    """Near-identical images among ``images`` (N, H, W), 0..255, with ``masks`` (N, H, W) of 0/1.

    Images should have 96 pixels a side or more: in smaller ones, images that were cropped again are missed.
    Images without any detail (black, saturated) have no near-duplicates.
    """
    prints = detail_prints(images)
    leader = np.arange(len(images))
    contradictions = set()
    candidates: dict[tuple[int, int], None] = {}
    for row, likeness in _likenesses(prints):
        same = np.flatnonzero(likeness >= SAME)
        _join(leader, row, same)
        for other in same[np.argsort(-likeness[same], kind="stable")][:COMPARED].tolist():
            if _contradict(masks[row], masks[other]):
                contradictions.add((min(row, other), max(row, other)))
        likeness[same] = -1
        nearest = int(likeness.argmax())
        if likeness[nearest] >= SIMILAR:
            candidates[min(row, nearest), max(row, nearest)] = None
    for first, second in candidates:
        found = _register(images[first], images[second])
        if found is None:
            continue
        _join(leader, first, np.array([second]))
        shared = _shared(_inside(images[first], FINE), _inside(images[second], FINE), found)
        if _contradict_where(shared, _label_square(masks[first]), _label_square(masks[second]), found):
            contradictions.add((first, second))
    return NearDuplicates(_groups(leader), tuple(sorted(contradictions)))


def reduced(image: Grey, mask: Mask) -> tuple[Grey, Grey]:
    """An image and its mask (both (H, W)) letterboxed to (HEIGHT, WIDTH), the mask as 0/1."""
    box = Letterbox(image.shape[0], image.shape[1], HEIGHT, WIDTH)
    return box.apply(image), (box.apply(mask * np.uint8(255)) >= 128).astype(np.uint8)


def detail_prints(images: Sequence[Grey] | npt.NDArray[np.uint8]) -> Pixels:
    """Detail of each image's thumbnail, float32 (N, SIDE²), as vectors of length 1, or 0 if there is none.

    The product of two is their correlation: from SAME on the images are near-identical.
    """
    prints = np.zeros((len(images), SIDE * SIDE), np.float32)
    for row, image in enumerate(images):
        detail = _detail(_square(image, SIDE), _inside(image, SIDE)).ravel()
        length = float(np.linalg.norm(detail))
        if length > SIDE:  # a grey level a pixel: less is rounding
            prints[row] = detail / length
    return prints


def _likenesses(prints: Pixels) -> Iterator[tuple[int, Pixels]]:
    """Each row with its correlation with every other (N,), -1 with itself."""
    for start in range(0, len(prints), BLOCK):
        for row, likeness in enumerate(prints[start : start + BLOCK] @ prints.T, start=start):
            likeness[row] = -1
            yield row, likeness


def _join(leader: npt.NDArray[np.int64], row: int, others: npt.NDArray[np.int64]) -> None:
    """Put a row and others, with all that are grouped with them, under the least row of all."""
    leaders = np.unique(leader[[row, *others]])
    if len(leaders) > 1:
        leader[np.isin(leader, leaders)] = leaders[0]


def _groups(leader: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    members: dict[int, list[int]] = {}
    for row, first in enumerate(leader.tolist()):
        members.setdefault(first, []).append(row)
    return tuple(tuple(rows) for rows in members.values() if len(rows) > 1)


def _contradict(first: Labels, second: Labels) -> bool:
    a, b = first != 0, second != 0
    if a.any() != b.any():
        return True
    size = int(a.sum()) + int(b.sum())
    return size > 0 and 2 * int((a & b).sum()) < MIN_DICE * size


def _contradict_where(shared: npt.NDArray[np.bool_], first: Pixels, second: Pixels, found: Pixels) -> bool:
    """Whether masks (FINE squares of 0/1) contradict where both images are, the second laid over the first.

    A mask that lies mostly outside the other image decides nothing.
    """
    a, b = (first > 0) & shared, (_moved(second, found) >= 0.5) & shared
    if 2 * a.sum() < first.sum() or 2 * b.sum() < second.sum():
        return False
    return _contradict(a, b)


def _register(first: Grey, second: Grey) -> Pixels | None:
    """The map that lays the second image over the first, in FINE squares, or None if they differ."""
    found, correlation = _align(first, second, COARSE, IDENTITY, steps=30)
    if correlation < COARSE_SAME:
        return None
    start = found * np.array([1, 1, FINE / COARSE], np.float32)
    found, correlation = _align(first, second, FINE, start, steps=20)
    return found if correlation >= FINE_SAME else None


def _align(first: Grey, second: Grey, side: int, start: Pixels, *, steps: int) -> tuple[Pixels, float]:
    """The best affine map (2, 3) of squares near ``start``, and the correlation of detail under it.

    The correlation is 0 if no map was found, or one under which the images hardly overlap.
    """
    a, b = _square(first, side), _square(second, side)
    inside_a, inside_b = _inside(first, side), _inside(second, side)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    try:
        _, fitted = cv2.findTransformECC(a, b, start.copy(), cv2.MOTION_AFFINE, criteria, inside_a, 3)
    except cv2.error:  # it did not converge, or one of them is flat
        return start, 0.0
    found = np.asarray(fitted, np.float32)
    shared = _shared(inside_a, inside_b, found)
    if 2 * shared.sum() < (inside_a > 0).sum() or not shared.any():
        return found, 0.0
    x = _detail(a, inside_a)[shared]
    y = _detail(_moved(b, found), _moved(inside_b, found))[shared]
    x, y = x - x.mean(), y - y.mean()
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    return found, float(x @ y) / lengths if lengths else 0.0


def _square(image: Grey, side: int) -> Pixels:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def _detail(square: Pixels, inside: npt.NDArray[np.generic]) -> Pixels:
    """What varies within two thumbnail pixels, at any size of the square; 0 where ``inside`` is 0.

    The mean around a pixel is taken inside only, so that a margin makes no edge.
    """
    weight = (inside != 0).astype(np.float32)
    sigma = 2 * len(square) / SIDE
    sums, weights = (cv2.GaussianBlur(x, (0, 0), sigma) for x in (square * weight, weight))
    return np.asarray((square - sums / np.maximum(weights, 1e-6)) * weight, np.float32)


def _inside(image: Grey, side: int) -> npt.NDArray[np.uint8]:
    """255 inside an image's margins, less one pixel all around, in a square of the given side."""
    left, top, width, height = cv2.boundingRect((image > DARK).astype(np.uint8))
    x, y = side / image.shape[1], side / image.shape[0]
    inside = np.zeros((side, side), np.uint8)
    inside[
        int(np.ceil(top * y)) + 1 : int((top + height) * y) - 1,
        int(np.ceil(left * x)) + 1 : int((left + width) * x) - 1,
    ] = 255
    return inside


def _shared(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], found: Pixels
) -> npt.NDArray[np.bool_]:
    """The area of both images, the second one laid over the first."""
    return (first > 0) & (_moved(second, found) > 254)


def _moved(square: Pixels | npt.NDArray[np.uint8], found: Pixels) -> Pixels:
    """A square under a map; 0 outside."""
    size = (square.shape[1], square.shape[0])
    moved = cv2.warpAffine(square, found, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(moved, np.float32)


def _label_square(mask: npt.NDArray[np.generic]) -> Pixels:
    """A mask as a FINE square of 0/1: pixels that are mask for at least half their area."""
    square = _square((mask != 0).astype(np.uint8) * np.uint8(255), FINE)
    return (square >= 128).astype(np.float32)
