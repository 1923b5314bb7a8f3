"""Turns the net's probabilities into outlines in a frame's own pixels: the nerve's, and other structures'.

The probability map, not the mask, is resized to frame pixels, linearly, so that the outline is as smooth as
the frame; then it is cut at the threshold. Holes are filled, because a nerve's cross-section has none.
Parts (8-connected, counted with their holes) smaller than ``spec.min_area`` of the image region are
dropped. The rest is the nerve; without a rest the state is "no nerve".

Other structures, such as vessels, are found in the same way, each in a plane of its own and by limits of its
own (``spec.others``). They have no state: the nerve's is the frame's. No outline is cut by another: a pixel
may be nerve and vessel. A net that calls it both is unsure, and a vessel inside the nerve's outline is what a
user must not miss; whichever one gave way would hide that. Besides, thresholds and confidences are fitted on
whole outlines. In labels the structures never overlap.

If the net has an output calibration (``spec.judgement``), :func:`presence` decides whether there is a nerve,
and the threshold only where it is: above ``judgement.presence`` a map that stays below the threshold is cut
at half its highest value; below it there is no nerve, whatever single pixels say.

Confidence, 0..1:

* Nerve, calibrated: the expected Dice of the outline. The mean probability inside the outline is mapped to
  the Dice that such outlines reached on images that the net was not trained on. Below ``judgement.doubt``
  the state is LOW_CONFIDENCE.
* Nerve, not calibrated: the expected Dice if each probability is the chance that its pixel is nerve, ``2 *
  sum(p inside) / (mask pixels + sum(p anywhere))``. Nets trained with a Dice loss are overconfident, so this
  ranks frames better than it predicts their Dice. (On the held-back images the mean probability inside
  ranks better still: docs/log.md.) Below :data:`LOW_CONFIDENCE` the state is LOW_CONFIDENCE.
* No nerve: 1 minus the highest level at which an area as large as the smallest nerve would be reached, that
  is, how far the map is from showing a nerve.
* Other structures: the same, but for the state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.geometry import Letterbox
from streamseg.core.spec import StructureSpec
from streamseg.core.types import (
    Grey,
    InputSpec,
    Mask,
    OutputCalibration,
    Planes,
    Roi,
    Segmentation,
    State,
    Structure,
)
from streamseg.segmentation.preprocess import Prepared

LOW_CONFIDENCE = 0.85
"""Limit of the confidence for the state LOW_CONFIDENCE, for nets without output calibration."""

_ABSENT = 0.02
"""Where no nerve is, most of a map is below this: sorting the rest takes a twentieth of the time."""

_CLIP = 1e-4
"""Probabilities are clipped to this distance from 0 and 1, because the logit of these is infinite."""

_WHOLE_PIXELS = 17_000_000
"""Pixels of a region up to which its map is enlarged at once; the largest image would need 350 MB."""
_SMALL_PART = 0.25
"""Share of a region up to which only the part of it that may reach the level is enlarged."""
_STRIP_PIXELS = 1_000_000

Probability = npt.NDArray[np.float32]
Contour = npt.NDArray[np.int32]


def postprocess(prepared: Prepared, planes: Planes, spec: InputSpec) -> Segmentation:
    """Find nerve and other structures in a frame from the net's output.

    ``planes`` float32 (structures, spec.height, spec.width), in the order of ``spec.structures``.
    """
    nerve, *others = (
        _find(prepared, plane, spec.structure(name))
        for name, plane in zip(spec.structures, planes, strict=True)
    )
    doubt = LOW_CONFIDENCE if spec.judgement is None else spec.judgement.doubt
    state = State.NERVE if nerve.confidence >= doubt else State.LOW_CONFIDENCE
    return Segmentation(
        # Programs may write into the nerve's mask: it is never one that frames share.
        mask=nerve.mask if nerve.contours else np.zeros(nerve.mask.shape, np.bool_),
        contours=nerve.contours,
        area_px=nerve.area_px,
        area_mm2=nerve.area_mm2,
        centroid=nerve.centroid,
        confidence=nerve.confidence,
        state=state if nerve.contours else State.NO_NERVE,
        probability=planes[0],
        others=dict(zip(spec.structures[1:], others, strict=True)),
    )


def _find(prepared: Prepared, probability: Probability, spec: StructureSpec) -> Structure:
    """A structure in a frame from its plane, float32 (height, width) of the net's input.

    Without a sample that reaches the threshold nothing of the frame's size is computed.
    """
    letterbox, roi, spacing_mm = prepared.letterbox, prepared.roi, prepared.frame.spacing_mm
    content = letterbox.crop(probability)
    shape = prepared.frame.shape
    known = spec.judgement
    # Linear interpolation increases nothing: if no sample reaches the threshold, no pixel does.
    highest = float(content.max())
    level = _cut_level(content, highest, spec)
    if highest < level:
        return _nothing(shape, _absence(content, spec))
    mask = np.zeros(shape, np.bool_)
    enlarged, part = _enlarged(letterbox, probability, level)
    reached = _reached(letterbox, probability, level) if enlarged is None else enlarged >= level
    filled = part.crop(roi.crop(mask.view(np.uint8)))
    contours = _fill_parts(filled, reached, spec.min_area * roi.width * roi.height)
    if not contours:
        return _nothing(shape, _absence(content, spec))
    left, top, width, height = cv2.boundingRect(np.concatenate(contours))
    inside_box = filled[top : top + height, left : left + width]
    area, (x, y) = _measure(inside_box)
    if enlarged is None:
        inside = _sum_of_strips(letterbox, probability, inside_box, (left, top))
    else:
        inside = cv2.mean(enlarged[top : top + height, left : left + width], inside_box)[0] * area
    corner = (roi.x + part.x, roi.y + part.y)
    if known is None:
        everywhere = float(content.sum(dtype=np.float64)) * roi.width * roi.height / content.size
        confidence = min(1.0, 2 * inside / (area + max(everywhere, inside)))
    else:
        confidence = expected_dice(inside / area, known)
    return Structure(
        mask=mask,
        contours=tuple(contour + np.array(corner, np.int32) for contour in contours),
        area_px=area,
        area_mm2=None if spacing_mm is None else area * spacing_mm[0] * spacing_mm[1],
        centroid=(x + left + corner[0], y + top + corner[1]),
        confidence=confidence,
    )


def _nothing(shape: tuple[int, ...], confidence: float) -> Structure:
    """A structure that is not there."""
    return Structure(_empty_mask(shape), (), 0, None, None, confidence)


@lru_cache(maxsize=2)
def _empty_mask(shape: tuple[int, ...]) -> Mask:
    """Without a pixel; read-only, because frames share it: most have no vessel, and zeros take time, too."""
    mask = np.zeros(shape, np.bool_)
    mask.flags.writeable = False
    return mask


def _cut_level(content: Probability, highest: float, spec: StructureSpec) -> float:
    """The probability at which a map is cut; infinite if its presence score says that there is nothing."""
    limit = 0.0 if spec.judgement is None else spec.judgement.presence
    if limit > 0 and (highest < limit or presence(content) < limit):
        return math.inf
    return highest / 2 if limit > 0 and highest < spec.threshold else spec.threshold


def _enlarged(letterbox: Letterbox, probability: Probability, level: float) -> tuple[Probability | None, Roi]:
    """The map in the region's pixels where it may reach a level, and where that is in the region.

    None for a map that is too large to be enlarged at once.
    """
    height, width = letterbox.source_height, letterbox.source_width
    part = letterbox.reached(probability, level)
    if part.width * part.height <= _SMALL_PART * min(height * width, _WHOLE_PIXELS):
        return letterbox.undo_part(probability, part), part
    whole = Roi(0, 0, width, height)
    return (letterbox.undo(probability) if height * width <= _WHOLE_PIXELS else None), whole


def _reached(letterbox: Letterbox, probability: Probability, level: float) -> Mask:
    """Where the enlarged map reaches a level, strip by strip."""
    height, width = letterbox.source_height, letterbox.source_width
    reached = np.empty((height, width), np.bool_)
    for top, end in _strips(0, height, width):
        np.greater_equal(letterbox.undo_rows(probability, top, end), level, out=reached[top:end])
    return reached


def _sum_of_strips(
    letterbox: Letterbox, probability: Probability, mask: Grey, corner: tuple[int, int]
) -> float:
    """The sum of the enlarged map's probabilities inside a mask, strip by strip.

    ``mask`` is a part of the region, with its left upper ``corner`` there.
    """
    left, top = corner
    height, width = mask.shape
    total = 0.0
    for first, end in _strips(top, top + height, letterbox.source_width):
        part = mask[first - top : end - top]
        rows = letterbox.undo_rows(probability, first, end)[:, left : left + width]
        total += cv2.mean(rows, part)[0] * cv2.countNonZero(part)
    return total


def _strips(first: int, end: int, width: int) -> Iterator[tuple[int, int]]:
    """First row and end of strips of rows, in order."""
    rows = max(1, _STRIP_PIXELS // width)
    return ((top, min(top + rows, end)) for top in range(first, end, rows))


def presence(content: Probability) -> float:
    """Presence score of a probability map without padding, 0..1.

    The highest mean probability of any square with sides of a twentieth of the map's height.
    """
    side = max(1, round(content.shape[0] / 20))
    return float(cv2.blur(content, (side, side)).max())


def expected_dice(raw: float, judgement: OutputCalibration) -> float:
    """Expected Dice, 0..1, of an outline whose mean probability inside is ``raw``."""
    bounded = min(1 - _CLIP, max(_CLIP, raw))
    score = judgement.slope * math.log(bounded / (1 - bounded)) + judgement.intercept
    # tanh, because exp overflows
    return 0.5 + 0.5 * math.tanh(score / 2)


def unlike_training(prepared: Prepared, planes: Planes, spec: InputSpec) -> Segmentation:
    """The segmentation of a frame unlike the training data: no outline, since a net finds one in anything."""
    shape = prepared.frame.shape
    others = {name: _nothing(shape, 0.0) for name in spec.structures[1:]}
    mask = np.zeros(shape, np.bool_)
    return Segmentation(mask, (), 0, None, None, 0.0, State.UNLIKE_TRAINING, planes[0], others)


def _fill_parts(out: Grey, reached: Mask, min_pixels: float) -> list[Contour]:
    """Draw the parts that are large enough, holes filled, into ``out``; their outlines, largest first."""
    outlines, _ = cv2.findContours(reached.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    kept: list[tuple[int, Contour]] = []
    for outline in outlines:
        x, y, width, height = cv2.boundingRect(outline)
        if width * height < min_pixels:
            continue
        part = np.zeros((height, width), np.uint8)
        cv2.drawContours(part, [outline], 0, 1, cv2.FILLED, offset=(-x, -y))
        area = cv2.countNonZero(part)
        if area >= min_pixels:
            out[y : y + height, x : x + width] |= part
            kept.append((area, np.asarray(outline, np.int32).reshape(-1, 2)))
    return [outline for _, outline in sorted(kept, key=lambda pair: -pair[0])]


def _measure(mask: Grey) -> tuple[int, tuple[float, float]]:
    """Pixels and mean (x, y) of a mask."""
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    return int(area), (moments["m10"] / area, moments["m01"] / area)


def _absence(content: Probability, spec: StructureSpec) -> float:
    """Confidence that there is nothing, 0..1."""
    pixels = min(content.size, max(1, math.ceil(spec.min_area * content.size)))
    high = content[content >= _ABSENT]
    high = high if len(high) >= pixels else content.ravel()
    level = float(np.partition(high, len(high) - pixels)[len(high) - pixels])
    return min(1.0, max(0.0, 1.0 - level))
