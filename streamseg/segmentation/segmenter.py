"""Segments frames: preprocessing, inference and postprocessing, composed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Self

import numpy as np

from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.latency import StageClock
from streamseg.core.types import Backend, Frame, Planes, Roi, Segmentation, State
from streamseg.segmentation.ood_detector import OutOfDistributionDetector, is_coloured, read_reference
from streamseg.segmentation.postprocess import postprocess, unlike_training
from streamseg.segmentation.preprocess import Prepared, prepare
from streamseg.segmentation.repetition_detector import noise_left
from streamseg.segmentation.temporal_filter import TemporalFilter

_WARM_UP = 3
"""Inferences after which an engine has its full speed."""


class Segmenter:
    """Segments frames with one back end.

    ``prepare``, ``infer`` and ``finish`` share no state and may run in threads of their own, ``infer`` in as
    many as :attr:`lanes` says. With ``steady`` a finish depends on those before: one thread, in order. A
    frame may share its likeness to the training data with one just before, from which it hardly differs.
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

        ``withhold`` leaves out the outline of a frame unlike the training data, as every display must;
        without it only the state says so, for measuring nets on labelled images. ``steady`` removes the
        flicker of live outlines; None segments each frame independently, for measuring. Raises UsageError for
        a back end that takes several frames at a time, and EngineError for one whose reference of familiar
        images this version cannot read.
        """
        info = EngineInfo.of(backend)
        if info.batch != 1:
            raise UsageError(
                f"engine {info.name} takes {info.batch} frames at a time, which serves to measure "
                "throughput; give one that was exported with --batch 1"
            )
        self.backend = backend
        self.roi = roi
        self.withhold = withhold
        self.steady = steady
        self.alone: AbstractContextManager[object] = getattr(backend, "alone", nullcontext())
        """Held during each computation in Python: by one of the streams that share the back end at a time."""
        self._place: tuple[Roi, tuple[int, int]] | None = None
        judgement = backend.spec.judgement
        self._detector: OutOfDistributionDetector | None = None
        if judgement is not None and judgement.familiar:
            read_reference(judgement.familiar)
            self._detector = OutOfDistributionDetector(judgement.familiar)

    @classmethod
    def for_live(cls, backend: Backend) -> Self:
        """A segmenter for live video: with a temporal filter, and warmed up, so that the first frame does not
        wait for work that is done only once. Raises as the constructor and :meth:`infer` do."""
        segmenter = cls(backend, steady=TemporalFilter())
        black = np.zeros((backend.spec.height, backend.spec.width), np.uint8)
        prepared = segmenter.prepare(Frame(black, 0, 0))
        for _ in range(_WARM_UP):
            segmenter.infer(prepared)
        return segmenter

    @property
    def lanes(self) -> int:
        """Frames that the back end infers at the same time."""
        return EngineInfo.of(self.backend).lanes

    def wait_turn(self) -> bool:
        """Wait until a shared back end is about to serve this stream: there may be a newer frame by then.
        False, at once, for a back end that is not shared."""
        wait = getattr(self.backend, "wait_turn", None)
        if wait is None:
            return False
        wait()
        return True

    def prepare(self, frame: Frame, roi: Roi | None = None, clock: StageClock | None = None) -> Prepared:
        """Prepare a frame for the net. Raises UsageError for a ROI that reaches outside the frame.

        ``roi`` replaces the segmenter's for this frame. ``clock`` has the times of earlier stages; the three
        steps add theirs: preprocess, infer and postprocess.
        """
        roi = roi or self.roi or Roi.whole(frame)
        roi.check_inside(*frame.shape)
        with self.alone:
            return prepare(frame, roi, self.backend.spec, StageClock() if clock is None else clock)

    def infer(self, prepared: Prepared) -> Planes:
        """Probability of each structure, float32 (structures, spec.height, spec.width). Raises EngineError,
        also for values or a shape that cannot be one."""
        with prepared.clock.stage("infer"):
            planes = self.backend.infer(prepared.tensor)
            self._check(planes)
            return planes

    def _check(self, planes: Planes) -> None:
        spec = self.backend.spec
        expected = (len(spec.structures), spec.height, spec.width)
        if planes.shape != expected:
            raise EngineError(
                f"engine {self.backend.name} gave maps {planes.shape}, its specification says {expected} "
                f"for {', '.join(spec.structures)}; export it again"
            )
        # NaN passes every threshold as "no nerve": a broken engine must not look like an empty image.
        low, high = float(planes.min()), float(planes.max())
        if not (low >= -0.01 and high <= 1.01):
            raise EngineError(
                f"engine {self.backend.name} gave values from {low:.3g} to {high:.3g}, which are "
                "no probabilities; export it again"
            )

    def finish(self, prepared: Prepared, planes: Planes) -> Segmentation:
        """The structures in the frame's own pixels; none of them, and UNLIKE_TRAINING, for a frame unlike the
        training data. ``planes`` as from :meth:`infer`."""
        with self.alone, prepared.clock.stage("postprocess"):
            return self._finish(prepared, planes)

    def _finish(self, prepared: Prepared, planes: Planes) -> Segmentation:
        spec, frame = self.backend.spec, prepared.frame
        unlike = prepared.misplaced or self._is_unlike(prepared)
        if self.steady is not None:
            if self._place != (prepared.roi, frame.shape):
                self._place = prepared.roi, frame.shape
                self.steady.reset()
            noise = noise_left((prepared.roi.height, prepared.roi.width), prepared.content.shape)
            planes = self.steady.update(
                planes, prepared.content, frame.captured_ns, unlike=unlike, noise=noise
            )
            unlike = self.steady.unlike
        if unlike and self.withhold:
            return unlike_training(prepared, planes, spec)
        found = postprocess(prepared, planes, spec)
        if unlike:
            return replace(found, state=State.UNLIKE_TRAINING)
        return found if self.steady is None else replace(found, state=self.steady.filter_state(found.state))

    def _is_unlike(self, prepared: Prepared) -> bool:
        """Whether the image is unlike the training data; False for an engine that does not know them."""
        if self._detector is None:
            return False
        frame = prepared.frame
        at_ns = frame.captured_ns if frame.pts_seconds is None else round(frame.pts_seconds * 1e9)
        return self._detector.distance(prepared.content, at_ns) > 1 or is_coloured(frame, prepared.roi)

    def segment(self, frame: Frame, clock: StageClock | None = None) -> Segmentation:
        """Prepare, infer and finish; ``clock`` collects the stages preprocess, infer and postprocess."""
        prepared = self.prepare(frame, clock=clock)
        return self.finish(prepared, self.infer(prepared))
