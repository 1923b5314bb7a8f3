"""The structures that are written to DICOM: their codes, and their masks on the cine's own pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.cine import CineReference
from streamseg.core.errors import SourceError
from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Mask, Result, Segmentation, State, Structure
from streamseg.sinks.dicom.instance import Code, plain

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
"""Category of every structure (PS3.16, CID 7150)."""
STRUCTURES: Mapping[str, Code] = {
    NERVE: Code("84782009", "SCT", "Peripheral nerve"),
    VESSEL: Code("59820001", "SCT", "Blood vessel"),  # the net does not tell arteries from veins
    "artery": Code("51114001", "SCT", "Artery"),
    "vein": Code("29092000", "SCT", "Vein"),
}
"""Types by the structure's name (PS3.16, CID 7151), in the order of their segments."""
_SHOWN = (State.NERVE, State.LOW_CONFIDENCE, State.NO_NERVE)
"""States in which outlines mean something."""
_SQUARE = 1.02
"""Stretch below which the pixels of a source are left as they are (:mod:`streamseg.capture.geometry`)."""


def code_of(name: str) -> Code:
    """The type of a structure; one that no code is known for is an anatomical structure."""
    return STRUCTURES.get(name, ANATOMICAL_STRUCTURE)


def rank(name: str) -> tuple[int, str]:
    """Sort key that gives a structure the same place in every file."""
    names = list(STRUCTURES)
    return (names.index(name) if name in names else len(names), name)


def outlined(segmentation: Segmentation) -> Iterator[tuple[str, Structure]]:
    """The structures that have an outline in a frame, with their names."""
    if segmentation.state not in _SHOWN:
        return
    for name, structure in segmentation.structures.items():
        if structure.contours:
            yield plain(name), structure


def frame_number(result: Result, cine: CineReference) -> int:
    """The number of a result's frame in the cine, from 1. Raises SourceError if it is not certain."""
    index = result.frame.file_index
    if index is None:
        raise SourceError(
            "the cine is damaged, so that the numbers of its frames are not certain, and an outline on the "
            "wrong frame is worse than none; export it again"
        )
    if index >= cine.frames:
        raise SourceError(
            f"the cine states {cine.frames} frames, but has more, which nothing can refer to; correct its "
            "header (NumberOfFrames)"
        )
    return index + 1


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """Maps a frame with square pixels to the pixels that the file stores, one axis of which may be coarser.

    Sources stretch the axis with the larger pixels (:func:`streamseg.capture.geometry.square_pixels`).
    """

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def of(cls, cine: CineReference, result: Result) -> PixelGrid:
        """The grids of a cine and a result. Raises SourceError for a frame that is not the stored image."""
        height, width = result.frame.shape
        stretch = height / cine.rows, width / cine.columns
        if stretch != (1, 1) and not (min(stretch) == 1 and max(stretch) > _SQUARE):
            raise SourceError(
                f"the frames have {width}x{height} pixels, which do not fit the {cine.columns}x{cine.rows} "
                "of the cine's header; export it again"
            )
        return cls(cine.rows, cine.columns, height, width)

    @property
    def is_same(self) -> bool:
        return (self.rows, self.columns) == (self.height, self.width)

    def mask(self, mask: Mask) -> Mask:
        """The mask on the stored pixels, bool (rows, columns): what lies at each one's centre."""
        if self.is_same:
            return mask
        rows = ((np.arange(self.rows) + 0.5) * (self.height / self.rows)).astype(np.intp)
        columns = ((np.arange(self.columns) + 0.5) * (self.width / self.columns)).astype(np.intp)
        return mask[np.ix_(rows, columns)]

    def outline(self, contour: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """A contour (n, 2) of (x, y) as a closed line on the stored pixels, in the coordinates of an SR.

        These count from the corner of the first pixel, whose centre is at (0.5, 0.5) (PS3.3, C.18.6.1.2),
        ours from its centre. A line of less than three points becomes the border of its pixels.
        """
        points = contour.astype(np.float64) + 0.5
        if len(points) < 3:
            (left, top), (right, bottom) = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
            points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        points *= (self.columns / self.width, self.rows / self.height)
        return np.concatenate([points, points[:1]])


def part_areas(structure: Structure) -> list[int]:
    """Pixels of each part of a structure, in the order of its contours; a part includes its holes."""
    if len(structure.contours) == 1:
        return [structure.area_px]
    areas = []
    for contour in structure.contours:
        x, y, width, height = cv2.boundingRect(contour)
        part = np.zeros((height, width), np.uint8)
        cv2.drawContours(part, [contour], 0, 1, cv2.FILLED, offset=(-x, -y))
        areas.append(cv2.countNonZero(part))
    return areas
