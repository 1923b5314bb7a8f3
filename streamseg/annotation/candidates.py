"""Reads recordings and scores frames of them as candidates for labelling.

Of each recording frames spread over its length are taken, cut to the ultrasound image. The net segments each,
its mirror image, and the frame before it. Four scores, each 0..1, say how little the net can be trusted:

* ``unsure``: 1 minus its confidence;
* ``mirror``: 1 minus the Dice of its outlines of the frame and of the mirrored one, laid over each other;
  0 for an engine that averages the two itself;
* ``flicker``: 1 minus the Dice of its outlines of the frame and of the one before it;
* ``unlike``: how far the image is from the training data; 0.5 at the limit of the distribution.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.annotation.frames import write_image
from streamseg.capture import open_source
from streamseg.capture.screen.region import ImageRegion, Origin
from streamseg.core.errors import SourceError, UsageError, one_line
from streamseg.core.types import Frame, Image, Mask, Roi, Say, Segmentation, Source, State
from streamseg.datasets import open_dataset
from streamseg.datasets.near_duplicates import detail_prints
from streamseg.evaluation.overlap import Confusion
from streamseg.reporting.formatting import counted
from streamseg.segmentation.ood_detector import distance
from streamseg.segmentation.preprocess import to_grey
from streamseg.segmentation.segmenter import Segmenter

SCORES = ("unsure", "mirror", "flicker", "unlike")
EVERY_SECONDS = 0.5
"""Between two candidates of a recording, unless that gives too many."""
EVERY_FRAMES = 15
"""The same for a source whose rate is not known and whose frames are a video's."""
BLANK = 4.0
"""Grey levels: an image of a lower standard deviation shows nothing."""
NEIGHBOUR_SECONDS = 0.1
"""Frames further apart than this say nothing about flicker."""


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """A frame that may be chosen."""

    recording: str
    frame: int
    seconds: float | None
    subject: str
    image: Path
    """Its ultrasound image, written by :func:`read_candidates`."""
    height: int
    width: int
    scores: Mapping[str, float]
    """By name of SCORES; a score that could not be measured is missing."""
    state: State
    print: npt.NDArray[np.float32]
    """See :func:`~streamseg.datasets.near_duplicates.detail_prints`."""
    masks: Mapping[str, Mask]
    """The net's outlines by structure."""

    @property
    def name(self) -> str:
        """See :class:`~streamseg.annotation.frames.SelectedFrame`."""
        return f"{self.recording}-{self.frame:06d}"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How recordings are read."""

    limit: int
    """Maximum number of candidates of one recording."""
    roi: Roi | None = None
    """A rectangle that the user gave."""
    find_roi: bool = True
    """Search for the image if no rectangle was given; else frames are taken whole."""
    subject: str = ""
    """The subject of all recordings; empty: each recording is one of its own."""


def read_candidates(
    uri: str,
    segmenter: Segmenter,
    scratch: Path,
    options: ReadOptions,
    *,
    say: Say = lambda _: None,
    advance: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Candidate]:
    """The candidates of one recording; their images are written into ``scratch``.

    Frames in which the image is not known to be in its place give none: the machine shows another screen.
    ``advance`` is called for each frame that was read. A recording that breaks off gives the candidates
    before the break. Raises UsageError and SourceError for one that cannot be opened, UsageError for one in
    which no ultrasound image is found: a whole screen may show the patient's name. Raises SinkError.
    """
    with open_source(uri) as source:
        region = _region(uri, source, options, say)
        step = _step(source, options.limit)
        reader = _Reader(segmenter, scratch, options.subject)
        found: list[Candidate] = []
        left_out = 0
        try:
            for previous, frame in _pairs(source):
                advance()
                if should_stop():
                    break
                roi, in_place = region.locate_recorded(frame)
                if roi is None or not in_place:
                    continue  # another screen, such as the list of patients
                if _taken_whole(roi, frame, source, options):
                    left_out += 1
                    continue
                reader.number_by(frame, roi)
                if frame.index % step == 0 and (one := reader.candidate(frame, previous, roi)):
                    found.append(one)
                if len(found) > options.limit:  # the source did not know its length
                    found, step = _thinned(found), 2 * step
        except SourceError as error:
            say(f"{source.info.name}: {one_line(error)}; going on with the {len(found)} candidates before it")
        if left_out:
            say(
                f"{source.info.name}: left out {counted(left_out, 'frame')} of another size, in which no "
                "image was found; give --roi"
            )
        return found


def _region(uri: str, source: Source, options: ReadOptions, say: Say) -> ImageRegion:
    """Where the image is. Raises UsageError if it is not found."""
    info = source.info
    region = ImageRegion.of_recording(
        info,
        partial(open_source, uri),
        given=options.roi,
        search=options.find_roi and not uri.startswith("phantom:"),
        open_at=lambda seconds: open_source(uri, start_seconds=seconds),
    )
    if options.roi is None and options.find_roi and region.origin is Origin.WHOLE_FRAME:
        if not uri.startswith("phantom:"):
            raise UsageError(
                f"found no ultrasound image in {info.name}, and its whole screen may name the patient; give "
                "--roi x,y,w,h, or --roi none for images that show nothing else"
            )
    elif region.roi is not None:
        say(f"{info.name}: the ultrasound image is at {region.roi} ({region.origin})")
    return region


def _taken_whole(roi: Roi, frame: Frame, source: Source, options: ReadOptions) -> bool:
    """Whether a frame is taken whole only because no image was searched for in frames of its size."""
    searched = frame.shape == (source.info.height, source.info.width)
    return options.find_roi and options.roi is None and not searched and roi == Roi.whole(frame)


def _step(source: Source, limit: int) -> int:
    """Every how many frames there is a candidate."""
    info = source.info
    step = EVERY_FRAMES if info.rate is None else max(1, round(EVERY_SECONDS * info.rate))
    if info.frame_count is not None and info.rate is None and info.frame_count <= limit:
        step = 1  # a folder of images
    return step if info.frame_count is None else max(step, math.ceil(info.frame_count / limit))


def _pairs(source: Source) -> Iterator[tuple[Frame | None, Frame]]:
    """Each frame with the one before it."""
    previous: Frame | None = None
    for frame in source:
        yield previous, frame
        previous = frame


def _thinned(found: list[Candidate]) -> list[Candidate]:
    """Every second candidate; the images of the others are removed."""
    for left_out in found[1::2]:
        left_out.image.unlink(missing_ok=True)
    return found[::2]


class _Reader:
    """Makes candidates of one recording's frames."""

    def __init__(self, segmenter: Segmenter, scratch: Path, subject: str) -> None:
        self._segmenter, self._scratch, self._subject = segmenter, scratch, subject
        self._recording = ""

    def number_by(self, frame: Frame, roi: Roi) -> None:
        """Number the recording by its first image that shows something: many begin black."""
        if not self._recording and float((image := roi.crop(frame.image)).std()) > BLANK:
            self._recording = recording_number(image)

    def candidate(self, frame: Frame, previous: Frame | None, roi: Roi) -> Candidate | None:
        """A frame as a candidate; None for those before the first that shows something."""
        if not self._recording:
            return None
        image = np.ascontiguousarray(_plain(roi.crop(frame.image)))
        before = None
        if previous is not None and _neighbours(previous, frame) and roi.fits_into(*previous.shape):
            before = roi.crop(previous.image)
        found, scores = score(image, before, self._segmenter)
        path = self._scratch / f"{self._recording}-{frame.index:06d}.png"
        write_image(path, image)
        return Candidate(
            recording=self._recording,
            frame=frame.index,
            seconds=frame.pts_seconds,
            subject=self._subject or self._recording,
            image=path,
            height=image.shape[0],
            width=image.shape[1],
            scores=scores,
            state=found.state,
            print=detail_prints([to_grey(image)])[0],
            masks=outlines(found),
        )


def score(image: Image, before: Image | None, segmenter: Segmenter) -> tuple[Segmentation, dict[str, float]]:
    """The net's outlines of an image, and its scores by name; ``before`` is the image a moment earlier."""

    def segment(picture: Image) -> Segmentation:
        return segmenter.segment(Frame(np.ascontiguousarray(picture), 0, time.monotonic_ns()))

    found = segment(image)
    scores = {
        "unsure": 1 - found.confidence,
        "mirror": 0.0
        if segmenter.backend.spec.mirrored
        else 1 - _dice(found.mask, segment(image[:, ::-1]).mask[:, ::-1]),
        "unlike": _unlike(image, segmenter),
    }
    if before is not None:
        scores["flicker"] = 1 - _dice(found.mask, segment(before).mask)
    return found, scores


def _unlike(image: Image, segmenter: Segmenter) -> float:
    judgement = segmenter.backend.spec.judgement
    if judgement is None or not judgement.familiar:
        return 0.0
    content = segmenter.prepare(Frame(np.ascontiguousarray(image), 0, time.monotonic_ns())).content
    return min(1.0, distance(content, judgement.familiar) / 2)


def outlines(found: Segmentation) -> dict[str, Mask]:
    """A segmentation's masks by structure: the nerve, and the others that the net outlines."""
    return {name: structure.mask for name, structure in found.structures.items()}


def recording_number(image: Image) -> str:
    """Six digits made from a recording's first image: the same whenever it is read, and no name."""
    digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
    return f"{int.from_bytes(digest[:8], 'big') % 1_000_000:06d}"


def prints_of_datasets(folders: Sequence[Path]) -> npt.NDArray[np.float32] | None:
    """The prints of all images of labelled data sets; None without any. Raises DataError and UsageError."""
    rows = [detail_prints([sample.image]) for folder in folders for sample in open_dataset(folder)]
    return np.concatenate(rows) if rows else None


def _plain(image: Image) -> Image:
    """An image without colour as grey (H, W)."""
    if image.ndim == 2 or cv2.norm(image[..., 0], image[..., 1], cv2.NORM_INF) + cv2.norm(
        image[..., 1], image[..., 2], cv2.NORM_INF
    ):
        return image
    return image[..., 0]


def _neighbours(previous: Frame, frame: Frame) -> bool:
    """Whether a frame follows another one so soon that their outlines should be alike."""
    if previous.pts_seconds is None or frame.pts_seconds is None:
        return False
    return 0 < frame.pts_seconds - previous.pts_seconds <= NEIGHBOUR_SECONDS


def _dice(first: Mask, second: Mask) -> float:
    return Confusion.count(first, np.ascontiguousarray(second)).dice
