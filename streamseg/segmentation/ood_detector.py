"""Detects images unlike the training data: another kind of image, black, saturated, turned, coloured.

A net outlines something in any image, also in a photograph, and its probabilities do not reveal that. The
detector therefore checks the image itself, as it enters the net: 26 features of its grey levels, its texture
at four scales, the direction of its structures, its brightness over depth and the shape of its lit area.
Training images, with machine settings varied, fill an ellipsoid in feature space; images outside it are out
of distribution. (Mahalanobis distance; as a detector: arXiv:1807.03888, there on a net's features.) The limit
was chosen for a stated share of false alarms (:mod:`streamseg.training.ood_reference`).

Colour never reaches the net, so it is checked separately: colour Doppler paints over the tissue. An image
tinted as a whole, as some machines show B-mode, is accepted: only colours off the one tint count.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.errors import EngineError
from streamseg.core.geometry import cell_means
from streamseg.core.types import Frame, Grey, Image, Roi

FEATURES = (
    *("lit", "dark_grey", "median_grey", "bright_grey", "brightest_grey", "entropy", "saturated", "flat"),
    *("contrast", "fine_to_medium", "medium_to_coarse", "coarse_to_coarsest"),
    *("upright_fine", "upright_medium", "upright_coarse", "peaks_fine", "peaks_medium"),
    *(f"depth_{band}" for band in range(6)),
    *("lit_sides", "lit_top_corners", "lit_bottom_corners"),
)
"""Names of the features, in their order."""
MIN_SIDE = 16
"""An image with a side shorter than this, in pixels of the net's input, holds too little to decide."""
DARK = 8
"""Grey levels below this are black: no echo, or outside the image."""
COLOURED_SHARE = 0.002
"""An image with a larger share off its tint is coloured. Of 204 real greyscale grabs none exceeds 0.001."""
_OFF_TINT = 60
"""Grey levels by which a colour channel must differ from the tint to count."""
_COLOUR_SAMPLES = 128
"""Maximum number of pixels along a side that are checked for colour."""

KEPT_NS = 100_000_000
"""The distance of an image is not kept for this long."""
SAME_IMAGE = 3.0
"""Mean difference in grey levels up to which two images of a stream are taken for the same: on clips and
phantoms their distances then differ by 6 % at most."""
NEAR_LIMIT = 0.1
"""A distance that differs less from the limit is not kept."""
_SEEN_STEP = 4

Vector = npt.NDArray[np.float64]


def features(content: Grey) -> Vector:
    """The features of an image, float64 (26,), in the order of :data:`FEATURES`; all finite.

    ``content`` is uint8 (H, W) at the net's resolution without the letterbox's padding, each side at least
    :data:`MIN_SIDE`.
    """
    mean = float(cv2.mean(content)[0])
    greys = _grey_levels(content)
    change, upright, peaks, flat = _texture(content)
    bands = np.rint(cell_means(content, 6, 1)).ravel()
    depth = np.log((bands + 4.0) / (mean + 4.0))
    return np.array(
        [
            *greys,
            flat,
            change[0] - np.log(mean + 4.0),
            *(-np.diff(change)),
            *upright[:3],
            *peaks[:2],
            *depth,
            *_shape(content),
        ]
    )


def _grey_levels(content: Grey) -> list[float]:
    """Share of lit pixels; their quantiles 10, 50, 90 and 99 %; entropy of their greys; saturated share."""
    counts = cv2.calcHist([content], [0], None, [256], [0, 256]).ravel()
    lit = counts[DARK:]
    total = max(1.0, float(lit.sum()))
    quantiles = (np.searchsorted(np.cumsum(lit) / total, (0.1, 0.5, 0.9, 0.99)) + DARK) / 255
    shares = lit.reshape(-1, 4).sum(axis=1) / total
    shares = shares[shares > 0]
    entropy = -float((shares * np.log(shares)).sum())
    return [float(lit.sum()) / content.size, *quantiles, entropy, float(counts[250:].sum()) / content.size]


def _texture(content: Grey) -> tuple[list[float], list[float], list[float], float]:
    """Differences of neighbours at four scales, each half as fine as the previous one.

    Per scale: log of their mean; log of vertical over horizontal; log of their peakedness (speckle has
    little, letters and edges much). And the share of lit pixels that equal a neighbour.
    """
    change: list[float] = []
    upright: list[float] = []
    peaks: list[float] = []
    level, same = content, 0.0
    for scale in range(4):
        across = cv2.absdiff(level[:, 1:], level[:, :-1])
        down = cv2.absdiff(level[1:], level[:-1])
        x, y = cv2.mean(across)[0] + 0.05, cv2.mean(down)[0] + 0.05
        squares = sum(cv2.norm(part, cv2.NORM_L2SQR) / part.size for part in (across, down))
        change.append(float(np.log(x + y)))
        upright.append(float(np.log(y / x)))
        peaks.append(float(np.log((squares + 0.1) / (x + y) ** 2)))
        if scale == 0:
            lit = cv2.threshold(content, DARK - 1, 255, cv2.THRESH_BINARY)[1][1:, 1:]
            moved = cv2.bitwise_and(cv2.max(across[1:], down[:, 1:]), lit)
            same = 1 - cv2.countNonZero(moved) / max(1, cv2.countNonZero(lit))
        level = np.asarray(cv2.pyrDown(level), np.uint8)
    return change, upright, peaks, same


def _shape(content: Grey) -> list[float]:
    """How much more of the sides, the top corners and the bottom corners is lit than of the middle."""
    lit = cv2.threshold(content, DARK - 1, 255, cv2.THRESH_BINARY)[1]
    grid = np.rint(cell_means(np.asarray(lit, np.uint8), 6, 6)) / 255
    outside, inside = grid[:, [0, 5]].mean(axis=1), grid[:, 2:4].mean(axis=1)
    lead = outside - inside
    return [float(lead[1:5].mean()), float(lead[0]), float(lead[5])]


def distance(content: Grey, familiar: str) -> float:
    """Distance of an image from the training data: 1 is the limit of the distribution.

    ``content`` as for :func:`features`; ``familiar`` as in :class:`streamseg.core.spec.OutputCalibration`.
    Infinite for an image that is too small to decide.
    """
    if min(content.shape) < MIN_SIDE:
        return float("inf")
    centre, factor = read_reference(familiar)
    return float(np.linalg.norm((features(content) - centre) @ factor))


@lru_cache(maxsize=8)
def read_reference(familiar: str) -> tuple[Vector, Vector]:
    """Centre (n,) and factor (n, n) of the ellipsoid: ``|(x - centre) @ factor|`` is the distance.

    Raises EngineError for a text that was made from other features.
    """
    numbers = np.array(familiar.split(), np.float64)
    n = len(FEATURES)
    if len(numbers) != n * (n + 3) // 2:
        raise EngineError(
            f"the engine's reference of familiar images holds {len(numbers)} numbers, this version reads "
            f"{n * (n + 3) // 2}; export it again with this version"
        )
    factor = np.zeros((n, n))
    factor[np.tril_indices(n)] = numbers[n:]
    return numbers[:n], factor


def write_reference(centre: Vector, factor: Vector) -> str:
    """The text that :func:`read_reference` reads; ``factor`` is lower triangular."""
    return " ".join(f"{value:.6g}" for value in (*centre, *factor[np.tril_indices(len(centre))]))


def colour_share(image: Image) -> float:
    """Share of an image's pixels whose colour differs from the tint, 0..1; 0 if hardly any has colour.

    The tint is each channel as a linear function of grey, so that an image in shades of one colour has none.
    """
    if image.ndim == 2:
        return 0.0
    size = (min(_COLOUR_SAMPLES, image.shape[1]), min(_COLOUR_SAMPLES, image.shape[0]))
    sampled = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    blue, green, red = cv2.split(sampled)
    spread = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
    if np.count_nonzero(spread > _OFF_TINT) <= COLOURED_SHARE * spread.size:
        return 0.0
    pixels = sampled.reshape(-1, 3).astype(np.float32)
    grey = pixels @ np.full(3, 1 / 3, np.float32)
    grey -= grey.mean()
    pixels -= pixels.mean(axis=0)
    tint = grey @ pixels / max(1.0, float(grey @ grey))
    off = np.abs(pixels - np.outer(grey, tint)) > _OFF_TINT
    return float((off[:, 0] | off[:, 1] | off[:, 2]).mean())


class OutOfDistributionDetector:
    """Judges the images of one stream.

    An image that hardly differs from the last one that was judged has the distance of that one: for less than
    :data:`KEPT_NS`, and only where that is not near the limit. Images may come in any order, in any thread.
    """

    def __init__(self, familiar: str) -> None:
        """``familiar`` as for :func:`distance`."""
        self._familiar = familiar
        self._last: tuple[int, Grey, float] | None = None

    def distance(self, content: Grey, at_ns: int) -> float:
        """As :func:`distance`; ``at_ns`` is the image's time on any clock. Does not keep ``content``."""
        seen, last = np.ascontiguousarray(content[::_SEEN_STEP, ::_SEEN_STEP]), self._last
        if (
            last is not None
            and abs(at_ns - last[0]) < KEPT_NS
            and seen.shape == last[1].shape
            and abs(last[2] - 1) > NEAR_LIMIT
            and cv2.norm(seen, last[1], cv2.NORM_L1) <= SAME_IMAGE * seen.size
        ):
            return last[2]
        found = distance(content, self._familiar)
        self._last = at_ns, seen, found
        return found


def is_out_of_distribution(image: Image, content: Grey, familiar: str) -> bool:
    """Whether an image, uint8 (H, W) or (H, W, 3) BGR with its ``content``, is unlike the training data."""
    return distance(content, familiar) > 1 or colour_share(image) > COLOURED_SHARE


def is_coloured(frame: Frame, roi: Roi) -> bool:
    """Whether a rectangle of a frame has colours off its tint. Of a decoded picture without colour, only the
    chroma is read."""
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray) and pixels.is_colourless(roi, _OFF_TINT, COLOURED_SHARE):
        return False
    return colour_share(frame.crop(roi)) > COLOURED_SHARE
