"""Frame in, segmentation out: preprocessing, a back end and postprocessing, composed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import EngineError, UsageError
from streamseg.core.latency import StageClock
from streamseg.core.types import Backend, Frame, Grey, Image, InputSpec, Roi, Segmentation, State, Tensor
from streamseg.segmentation.ood_detector import is_out_of_distribution, read_reference
from streamseg.segmentation.postprocess import postprocess, unlike_training
from streamseg.segmentation.preprocess import boxed, letterbox_for, normalise
from streamseg.segmentation.temporal_filter import TemporalFilter


def content_of(image: Image, spec: InputSpec, picture: Grey | None = None) -> Grey:
    """A picture, uint8 (H, W) or (H, W, 3) BGR, as it enters the net, without the letterbox's padding.

    ``picture`` is what :func:`streamseg.segmentation.preprocess.boxed` made of the same image, if it was
    done before.
    """
    left, top, width, height = letterbox_for(image, spec).content
    picture = boxed(image, spec) if picture is None else picture
    return picture[top : top + height, left : left + width]


class Segmenter:
    """Segments frames with one back end.

    ``picture``, ``tensor``, ``infer`` and ``finish`` may run in threads of their own, ``infer`` in ``lanes``
    of them; they share no state. With ``steady`` a finish depends on those before: one thread, in order.
    Frames may change size: the ROI is checked in each.
    """

    def __init__(
        self,
        backend: Backend,
        roi: Roi | None = None,
        *,
        withhold: bool = True,
        steady: TemporalFilter | None = None,
    ) -> None:
        """``roi`` is the ultrasound image inside the frame; None is the whole frame.

        ``withhold`` leaves out the outline of a frame that is unlike the training data, as everything that is
        shown to people must. Without it the state still says so: for measuring nets on labelled images.
        ``steady`` takes the flicker out of live outlines; None judges each frame alone, as measuring must.
        Raises UsageError for a back end that takes several frames at a time, and EngineError for one whose
        judgement this version cannot read.
        """
        if (batch := getattr(backend, "batch", 1)) != 1:
            raise UsageError(
                f"engine {backend.name} takes {batch} frames at a time, which serves to measure throughput; "
                "give one that was exported with --batch 1"
            )
        self.backend = backend
        self.roi = roi
        self.withhold = withhold
        self.steady = steady
        self._place: tuple[Roi, tuple[int, ...]] | None = None
        judgement = backend.spec.judgement
        if judgement is not None and judgement.familiar:
            read_reference(judgement.familiar)

    @property
    def lanes(self) -> int:
        """Frames that the back end infers at the same time."""
        return int(getattr(self.backend, "lanes", 1))

    def wait_turn(self) -> bool:
        """Wait until a back end that serves others as well is about to come to us: the newest frame then is
        newer than the one before. False, at once, for a back end of our own."""
        wait = getattr(self.backend, "wait_turn", None)
        if wait is None:
            return False
        wait()
        return True

    def roi_of(self, frame: Frame) -> Roi:
        """The part of this frame that is segmented. Raises UsageError where it reaches outside."""
        if self.roi is None:
            return Roi.whole(frame.image)
        self.roi.check_inside(*frame.image.shape[:2])
        return self.roi

    def picture(self, frame: Frame, roi: Roi | None = None) -> Grey:
        """The frame as it enters the net: uint8 (spec.height, spec.width). Raises UsageError for the ROI.

        ``roi`` replaces :meth:`roi_of` for this frame; :meth:`finish` then needs the same.
        """
        return boxed((roi or self.roi_of(frame)).crop(frame.image), self.backend.spec)

    def tensor(self, picture: Grey) -> Tensor:
        """The net's input, float32 (1, 1, spec.height, spec.width), of what :meth:`picture` gave."""
        return normalise(picture, self.backend.spec)[None, None]

    def prepare(self, frame: Frame, roi: Roi | None = None) -> Tensor:
        """:meth:`picture` and :meth:`tensor` in one."""
        return self.tensor(self.picture(frame, roi))

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """Probability, float32 (spec.height, spec.width). Raises EngineError, also for what is none."""
        probability = self.backend.infer(tensor)
        spec = self.backend.spec
        if probability.shape != (spec.height, spec.width):
            raise EngineError(
                f"engine {self.backend.name} gave a map {probability.shape}, its specification says "
                f"{(spec.height, spec.width)}; export it again"
            )
        # Not a number passes every threshold as "no nerve": a broken engine must not
        # look like an empty image.
        low, high = float(probability.min()), float(probability.max())
        if not (low >= -0.01 and high <= 1.01):
            raise EngineError(
                f"engine {self.backend.name} gave values from {low:.3g} to {high:.3g}, which are "
                "no probabilities; export it again"
            )
        return probability

    def finish(
        self,
        frame: Frame,
        probability: npt.NDArray[np.float32],
        roi: Roi | None = None,
        *,
        picture: Grey | None = None,
    ) -> Segmentation:
        """The nerve in the frame's own pixels, or UNLIKE_TRAINING where the net's judgement knows better.

        ``picture`` spares making anew what :meth:`picture` gave for the frame.
        """
        roi, spec = roi or self.roi_of(frame), self.backend.spec
        image = roi.crop(frame.image)
        known = spec.judgement
        familiar = "" if known is None else known.familiar
        content = content_of(image, spec, picture)
        unlike = bool(familiar) and is_out_of_distribution(image, content, familiar)
        if self.steady is not None:
            if self._place != (roi, frame.image.shape):
                self._place = roi, frame.image.shape
                self.steady.reset()
            probability = self.steady.update(probability, content, frame.captured_ns, unlike=unlike)
            unlike = self.steady.unlike
        if unlike and self.withhold:
            return unlike_training(frame.image.shape, probability)
        found = postprocess(
            probability,
            letterbox_for(image, spec),
            roi,
            frame_shape=frame.image.shape,
            spec=spec,
            spacing_mm=frame.spacing_mm,
        )
        if unlike:
            return replace(found, state=State.UNLIKE_TRAINING)
        return found if self.steady is None else replace(found, state=self.steady.filter_state(found.state))

    def segment(self, frame: Frame, clock: StageClock | None = None) -> Segmentation:
        """All three in turn; ``clock`` collects the stages preprocess, infer and postprocess."""
        clock = StageClock() if clock is None else clock
        with clock.stage("preprocess"):
            picture = self.picture(frame)
            tensor = self.tensor(picture)
        with clock.stage("infer"):
            probability = self.infer(tensor)
        with clock.stage("postprocess"):
            return self.finish(frame, probability, picture=picture)
