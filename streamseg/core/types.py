"""Values that flow through the pipeline, and the protocols of its stages.

Images are numpy arrays indexed (row, column); points are (x, y) in pixels with x to the right and
y down, the centre of the top-left pixel at (0, 0). Durations are nanoseconds of the monotonic clock.
This module imports nothing of ours except the errors and the net's specification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import UsageError
from streamseg.core.spec import NERVE, InputSpec, OutputCalibration

__all__ = [
    "Backend",
    "Frame",
    "Grey",
    "Image",
    "InputSpec",
    "Mask",
    "OutputCalibration",
    "Picture",
    "Planes",
    "Result",
    "Roi",
    "Say",
    "Segmentation",
    "Sink",
    "Source",
    "SourceInfo",
    "State",
    "Structure",
    "Tensor",
    "Yuv420",
]

Say = Callable[[str], None]
"""Receives one-line messages for the user, without the line break."""
Grey = npt.NDArray[np.uint8]
"""Grey image, uint8, shape (height, width)."""
Image = npt.NDArray[np.uint8]
"""Image, uint8, shape (height, width) grey or (height, width, 3) BGR."""
Mask = npt.NDArray[np.bool_]
"""Mask, bool, shape (height, width)."""
Tensor = npt.NDArray[np.float32]
"""Network input, float32, shape (1, 1, height, width)."""
Planes = npt.NDArray[np.float32]
"""Network output, float32, shape (structures, height, width): the probability of each structure in each
pixel, 0..1, in the order of :attr:`InputSpec.structures`. A pixel may belong to several structures."""


class State(StrEnum):
    """What is known about a frame; shown on the display and written to the records."""

    NERVE = "nerve"
    NO_NERVE = "no nerve"
    LOW_CONFIDENCE = "low confidence"
    UNLIKE_TRAINING = "unlike the training data"
    """The image is of another kind than those that the net was trained on: an outline would mean nothing."""
    LAGGING = "segmentation lagging"
    """Live: frames arrive, but the newest outline is older than the age budget."""
    SLOW = "source slow"
    """Live: frames come so rarely that an outline is too old to be shown before the next frame comes."""
    FROZEN = "scanner frozen"
    """Live: frames arrive, but their content has not changed for a while."""
    SOURCE_LOST = "source lost"
    """Live: no frame arrives."""
    STARTING = "starting"
    """Live: nothing has been segmented yet, since the start, a loss, or a change of the image's place."""
    ENDED = "source ended"
    """Live: a recording has been played to its end."""


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle of whole pixels inside a frame: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.x < 0 or self.y < 0:
            raise UsageError(
                f"ROI {self} is not a rectangle inside a frame; give x,y,w,h with x, y >= 0 and w, h >= 1"
            )

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    @classmethod
    def parse(cls, text: str) -> Roi:
        """Read ``"x,y,w,h"``. Raises UsageError."""
        try:
            x, y, width, height = (int(part) for part in text.split(","))
        except ValueError as error:
            raise UsageError(f"ROI {text!r} is not x,y,w,h in whole pixels, such as 40,60,512,480") from error
        return cls(x, y, width, height)

    @classmethod
    def whole(cls, image: Image | Frame) -> Roi:
        """The ROI that covers all of an image or a frame."""
        return cls(0, 0, image.shape[1], image.shape[0])

    def fits_into(self, height: int, width: int) -> bool:
        """Whether the rectangle lies inside a frame of this size."""
        return self.x + self.width <= width and self.y + self.height <= height

    def check_inside(self, height: int, width: int) -> None:
        """Raise UsageError unless the rectangle lies inside a frame of this size."""
        if not self.fits_into(height, width):
            raise UsageError(
                f"ROI {self} reaches outside the frame of {width}x{height} pixels; "
                f"the largest that fits is 0,0,{width},{height}"
            )

    def crop(self, image: Image) -> Image:
        """View of the image inside the rectangle."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known about a source before its first frame."""

    name: str
    """Human-readable, also for file names; never holds credentials."""
    height: int
    width: int
    frame_count: int | None = None
    """Number of frames, or None if only reading tells. For progress only; never trusted."""
    rate: Fraction | None = None
    """Nominal frames per second, exact, or None."""
    time_base: Fraction | None = None
    """Unit of the source's time stamps in seconds: every ``pts_seconds`` is a whole multiple of it."""
    region: Roi | None = None
    """The ultrasound image, if the source itself (DICOM) reports it."""
    clock: str = "arrival"
    """The meaning of ``captured_ns``: ``driver`` (the grabber's or sender's time stamp) or ``arrival``."""


@dataclass(frozen=True, slots=True, repr=False)
class Yuv420:
    """An image as video encoders take it: luma, and chroma of half its height and width."""

    planes: npt.NDArray[np.uint8]
    """uint8 (height * 3 / 2, width), both even: the rows of luma, then those of U, then those of V."""
    matrix: int = 5
    """By which colours follow from it, in the numbers of ISO/IEC 23091-2: 5 is that of ITU-R BT.601."""
    full_range: bool = False
    """Whether black and white are 0 and 255, not 16 and 235."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        rows, width = self.planes.shape
        return rows * 2 // 3, width


class Picture(Protocol):
    """A decoded picture with its luma apart, whose colours are computed when somebody asks. Thread-safe."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def image(self) -> Image:
        """uint8 (height, width, 3) BGR, read-only: computed by the first who asks, then kept."""
        ...

    def crop(self, roi: Roi) -> Image:
        """The part of :attr:`image` in a rectangle, without the rest if nobody has asked for it."""
        ...

    def grey(self, roi: Roi, step: int) -> Grey:
        """As :meth:`Frame.grey`."""
        ...

    def yuv420(self, roi: Roi) -> Yuv420:
        """A copy of a rectangle; an odd height or width is made even by repeating the last row or column."""
        ...

    def is_colourless(self, roi: Roi, spread: int, share: float) -> bool:
        """Whether the channels of at most a share of the pixels in a rectangle differ by more than
        ``spread`` grey levels, as far as a look at the chroma tells; False leaves it open."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Frame:
    """One image of a source. The source makes it and never reuses its buffer."""

    pixels: Image | Picture
    """An image, uint8 (height, width) grey or (height, width, 3) BGR, or a picture that makes one if it is
    needed: most frames are segmented and never drawn, and their luma is all that the net sees."""
    index: int
    """0, 1, 2, ... as delivered by the source."""
    captured_ns: int
    """Monotonic nanoseconds at which the grabber took the frame, or it arrived; for files, was decoded."""
    pts_seconds: float | None = None
    """Presentation time in the source's own time, seconds."""
    spacing_mm: tuple[float, float] | None = None
    """Millimetres per pixel (row, column), or None if unknown."""
    file_index: int | None = None
    """Position of a DICOM frame in its file, or in its series of single-frame files, from 0: frames that
    were left out (damaged ones, those before the start) count, too. None if the source does not know it for
    sure."""

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray):
            return
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            raise TypeError(
                f"a frame's image is uint8 (H,W) or (H,W,3), received {pixels.dtype} {pixels.shape}"
            )
        pixels.flags.writeable = False

    @property
    def image(self) -> Image:
        """uint8, (height, width) grey or (height, width, 3) BGR; read-only.

        A decoded frame computes it for the first one who asks. Who needs only a part asks for :meth:`crop`,
        who needs grey levels for :meth:`grey`, and for the size :attr:`shape`.
        """
        return self.pixels if isinstance(self.pixels, np.ndarray) else self.pixels.image

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def is_grey(self) -> bool:
        """Whether its image is grey, (height, width)."""
        return isinstance(self.pixels, np.ndarray) and self.pixels.ndim == 2

    @property
    def nbytes(self) -> int:
        """Bytes of its image, if it is made."""
        return self.pixels.nbytes if isinstance(self.pixels, np.ndarray) else 3 * math.prod(self.shape)

    def crop(self, roi: Roi) -> Image:
        """The part of :attr:`image` in a rectangle; read-only, perhaps a view."""
        return roi.crop(self.pixels) if isinstance(self.pixels, np.ndarray) else self.pixels.crop(roi)

    def grey(self, roi: Roi | None = None, step: int = 1) -> Grey:
        """Grey levels, uint8 (h, w), of every ``step``-th row and column of a rectangle, or of the whole
        frame; perhaps a view.

        Those of a colour image have the weights of ITU-R BT.601; those of a decoded picture are its luma,
        expanded to 0..255. For pixels without colour, the two differ by rounding: at most two grey levels.
        """
        roi = roi or Roi.whole(self)
        if not isinstance(self.pixels, np.ndarray):
            return self.pixels.grey(roi, step)
        part = roi.crop(self.pixels)[::step, ::step]
        if part.ndim == 2:
            return part
        import cv2  # here, because most that imports this module has no use for it

        return np.asarray(cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_BGR2GRAY), np.uint8)

    def __repr__(self) -> str:
        return f"Frame(index={self.index}, pts_seconds={self.pts_seconds}, shape={self.shape})"


@dataclass(frozen=True, slots=True, repr=False)
class Structure:
    """One anatomical structure in one frame, in that frame's own pixels."""

    mask: Mask
    """bool, (height, width) of the whole frame; False outside the ROI."""
    contours: tuple[npt.NDArray[np.int32], ...]
    """Outer outlines of the mask's parts, each int32 (n, 2) of (x, y) in frame pixels, largest first."""
    area_px: int
    """Pixels of the mask."""
    area_mm2: float | None
    """Area in square millimetres, or None if the pixel spacing is unknown."""
    centroid: tuple[float, float] | None
    """Mean (x, y) of the mask's pixels, or None for an empty mask."""
    confidence: float
    """0..1; :mod:`streamseg.segmentation.postprocess` defines it."""


@dataclass(frozen=True, slots=True, repr=False)
class Segmentation(Structure):
    """The nerve in one frame, and the other structures that the net outlines, in that frame's own pixels."""

    state: State
    """Never UNLIKE_TRAINING with an outline: such a frame has an empty mask and confidence 0."""
    probability: npt.NDArray[np.float32] | None = None
    """Probability of nerve at the net's own resolution (input height, width), or None."""
    others: Mapping[str, Structure] = field(default_factory=dict)
    """The net's other structures by name, such as ``vessel``: every one that it outlines, also where its mask
    is empty. Whatever hides the nerve's outline (a state, an age) hides theirs."""

    @property
    def structures(self) -> dict[str, Structure]:
        """The nerve, which this object is itself, and the others, by name."""
        return {NERVE: self, **self.others}

    def __repr__(self) -> str:
        return f"Segmentation({self.state}, area_px={self.area_px}, confidence={self.confidence:.2f})"


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """One frame with its segmentation. Sinks only read it."""

    frame: Frame
    segmentation: Segmentation
    roi: Roi
    stage_ns: Mapping[str, int] = field(default_factory=dict)
    """Nanoseconds spent on this frame per stage: decode, preprocess, infer, postprocess, ..."""
    age_ns: int = 0
    """Nanoseconds from capture (for files: from the decoded frame) to this result."""
    began_ns: Mapping[str, int] = field(default_factory=dict)
    """Monotonic nanoseconds at which stages began, if known: the gaps between them are waiting."""

    @property
    def state(self) -> State:
        return self.segmentation.state

    def __repr__(self) -> str:
        return f"Result({self.frame!r}, {self.segmentation!r}, age_ms={self.age_ns / 1e6:.1f})"


@runtime_checkable
class Source(Protocol):
    """Frames in order. Iterate once; close (or leave the ``with`` block) to release.

    A live source is open once it is built, and every wait has a limit: it raises SourceError if it cannot be
    opened, and from its iterator when frames stop coming, for whatever reason; it never invents a frame for
    one that was damaged or lost. ``close`` may be called from any thread, also during a read.
    """

    info: SourceInfo
    live: bool

    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class Backend(Protocol):
    """A compiled net: tensor in, probabilities out.

    ``infer`` is called from one thread at a time, or from as many as its
    :class:`~streamseg.core.engine_info.EngineInfo` says. Attributes may be plain ones or properties.
    """

    @property
    def name(self) -> str:
        """Engine name, such as ``improved_unet-openvino-int8``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash (sha256, 64 hex digits) of the file that the engine was read from."""
        ...

    @property
    def spec(self) -> InputSpec:
        """What the net expects."""
        ...

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, height, width), of a (1, 1, height, width) tensor.

        There is one plane for each of ``spec.structures``, also if the nerve is the only one.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class Sink(Protocol):
    """Receives results in frame order. ``close`` finishes the output so that it is readable."""

    def write(self, result: Result) -> None: ...
    def close(self) -> None: ...
