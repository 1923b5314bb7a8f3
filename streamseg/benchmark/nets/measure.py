"""One net at one size: all ways to run it, interleaved; then at a pace, judged, and started anew."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamseg.backends.fake import ellipse
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.limits import Kernel
from streamseg.benchmark.nets.accuracy import Accuracy, Findings, Pictures, findings, judge
from streamseg.benchmark.nets.schedule import FEWEST, FEWEST_LATE, MOST, SLOW_S, WARM_UP, Schedule
from streamseg.benchmark.nets.start import Start, start
from streamseg.benchmark.nets.variants import EAGER, EAGER_GPU, ON_GPU, Variant
from streamseg.benchmark.pipeline.run import EndToEnd, Paced, end_to_end, paced
from streamseg.benchmark.timing import Call, CallTimeout, Timing, calls_for, interleave, seconds_of
from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import StallError, StreamsegError
from streamseg.core.types import Backend, Tensor
from streamseg.segmentation.preprocess import to_tensor
from streamseg.segmentation.segmenter import Segmenter

T = TypeVar("T")
END = ", end to end"
PACE_ENDS_S = 0.3
"""About what a live run takes beside its frames."""


@dataclass(slots=True, repr=False)
class MeasuredVariant:
    """What was found out about one subject."""

    subject: Variant
    timing: Timing | None = None
    ends: list[EndToEnd] = field(default_factory=list)
    """One of each round; empty for batches."""
    paced: list[Paced] = field(default_factory=list)
    accuracy: Accuracy | None = None
    start: Start | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, repr=False)
class MeasurementContext:
    """What all points of a run have in common."""

    regime: Schedule
    clip: Clip
    kernels: Sequence[Kernel]
    pictures: Pictures
    image: Path
    """A frame as a .npy file, for processes of their own."""
    threads: int
    synchronize: Call | None = None
    """Waits for the GPU, where kernels only begin work on one."""


class NetMeasurement:
    """Measures the subjects of one point. One that fails or hangs leaves; ``absent`` says why."""

    def __init__(
        self, subjects: Sequence[Variant], setting: MeasurementContext, until: float = math.inf
    ) -> None:
        """It is to be done by ``until``, monotonic seconds: late, it takes fewer rounds and no paces."""
        self.measured = {subject.key: MeasuredVariant(subject) for subject in subjects}
        self.absent: dict[str, str] = {}
        self.kernels: dict[str, Timing] = {}
        """Those of the limit, timed among the subjects."""
        self._setting = setting
        self._regime = setting.regime
        self._gone: set[str] = set()
        self._until = until

    def run(self) -> None:
        """All of it, the interleaved part first. Raises nothing that a subject raises."""
        self._time()
        steps: list[tuple[str, Callable[[MeasuredVariant], None]]] = [("at a pace", self._pace)]
        if self._regime.starts:
            steps.append(("start", self._start))
        for what, step in steps:
            for key in list(self.measured):
                self._attempt(key, what, partial(step, self.measured[key]))
        self._judge()

    def _time(self) -> None:
        """Engine calls, kernels and end-to-end runs, interleaved."""
        regime, wait = self._regime, self._setting.synchronize
        calls: dict[str, Call] = {key: self._call(one.subject) for key, one in self.measured.items()}
        calls |= {kernel.name: kernel.call for kernel in self._setting.kernels}
        first = self._first(calls)
        ends = self._end_to_end_calls(first)
        works = {name: calls[name] for name in first} | ends
        if not works:
            return
        blocks = {name: regime.block_s / (1 if name in self.measured else 3) for name in first}
        found = interleave(
            works,
            rounds=regime.rounds,
            per_round={name: calls_for(first[name], blocks[name]) if name in first else 1 for name in works},
            warmup=0,
            lead_in={name: int(name in first and first[name] <= SLOW_S) for name in works},
            synchronize=wait,
            budget_s=min(regime.budget_s, max(0.0, self._until - time.monotonic() - self._rest_s(first))),
            least_rounds=regime.least_rounds,
            stall_s=regime.stall_s,
            on_failure=self._failed,
        )
        for name, timing in found.items():
            if name in self.measured:
                self.measured[name].timing = timing
            elif name not in ends:
                self.kernels[name] = timing

    def _rest_s(self, first: Mapping[str, float]) -> float:
        """About what comes after the rounds: paces and pictures."""
        regime = self._regime
        pictures, seconds = len(self._setting.pictures.samples), 0.0
        for key, one in self.measured.items():
            call_s = first.get(key, 0.0)
            seconds += call_s * (pictures if one.subject.trained else regime.untrained_pictures)
            if one.subject.point.batch == 1:
                kept_up = sum(regime.all_paces or call_s < 1 / pace for pace in regime.paces)
                paces = min(len(regime.paces), kept_up + 1)
                seconds += paces * (regime.paced_s + PACE_ENDS_S + call_s)
        return seconds

    def _end_to_end_calls(self, first: Mapping[str, float]) -> dict[str, Call]:
        """A block of each pipeline that takes one frame at a time."""
        found: dict[str, Call] = {}
        fewest = FEWEST if time.monotonic() < self._until else FEWEST_LATE
        for key, one in self.measured.items():
            if one.subject.point.batch == 1:
                frames = min(MOST, max(fewest, round(self._regime.end_s / max(first[key], 1e-6))))
                found[key + END] = partial(self._end_to_end, one, frames)
        return found

    def _first(self, calls: Mapping[str, Call]) -> dict[str, float]:
        """Seconds of each one's second call: the warm-up, and a first idea."""
        found = {}
        with CallTimeout(self._regime.stall_s) as watch:
            for name, call in calls.items():
                work = partial(seconds_of, call, warmup=WARM_UP - 1, synchronize=self._setting.synchronize)
                try:
                    found[name] = watch.run(work)
                except Exception as error:
                    self._failed(name, error)
        return found

    def _call(self, subject: Variant) -> Call:
        turns = itertools.cycle(inputs(subject, self._setting.clip))
        infer = subject.engine.infer
        return lambda: infer(next(turns))

    def _end_to_end(self, one: MeasuredVariant, frames: int) -> None:
        if one.subject.key in self._gone:
            raise StallError("its engine was left out")
        segmenter = segmenter_of(one.subject)
        one.ends.append(end_to_end(self._setting.clip, segmenter, frames, stall_s=self._regime.stall_s))

    def _pace(self, one: MeasuredVariant) -> None:
        if one.subject.point.batch == 1:
            segmenter = segmenter_of(one.subject)
            for pace in self._regime.paces:
                if time.monotonic() > self._until:
                    one.notes.append(f"not run live at {pace:g} frames/s: the run was late")
                    return
                one.paced.append(paced(self._setting.clip, segmenter, pace, self._regime.paced_s))
                too_slow = one.timing is not None and one.timing.median_ms > 1e3 / pace
                if too_slow and not self._regime.all_paces:
                    return

    def _start(self, one: MeasuredVariant) -> None:
        if one.subject.child:
            limit_s, threads = self._regime.stall_s, self._setting.threads
            one.start = start(one.subject.child, self._setting.image, threads=threads, limit_s=limit_s)

    def _judge(self) -> None:
        """Compare what all find in the same pictures, FP32's reference first."""
        reference: Findings | None = None
        for key in sorted(self.measured, key=lambda key: not is_reference(self.measured[key].subject)):
            one = self.measured[key]
            samples = self._setting.pictures.samples
            if not one.subject.trained:
                samples = samples[: self._regime.untrained_pictures]
            usual_s = 0.0 if one.timing is None else one.timing.median_ms / 1e3
            extra_s = len(samples) * (1 + 10 * usual_s)
            found = self._attempt(key, "accuracy", partial(findings, one.subject.engine, samples), extra_s)
            if found is None:
                continue
            if reference is None and one.subject.precision == "fp32":
                reference = found
            one.accuracy = judge(found, reference, trained=one.subject.trained)

    def _attempt(self, key: str, what: str, work: Callable[[], T], extra_s: float = 0.0) -> T | None:
        """What the work returns; None where it fails, which is noted, or hangs, which ends the subject."""
        usual_s = self._regime.paced_s * len(self._regime.paces)
        with CallTimeout(self._regime.stall_s + usual_s + extra_s) as watch:
            try:
                return watch.run(work)
            except StallError as error:
                self._failed(key, error)
            except Exception as error:
                self.measured[key].notes.append(f"{what}: {reason(error)}")
        return None

    def _failed(self, name: str, error: Exception) -> None:
        """A variant of the interleaved measurement, or a whole subject, that can go on no more."""
        key = name.removesuffix(END)
        if key not in self.measured:
            if key == name and key not in self._gone:
                self.absent[name] = reason(error)  # a kernel
            return
        if key != name and not isinstance(error, StallError):
            self.measured[key].ends.clear()
            self.measured[key].notes.append(f"end to end: {reason(error)}")
            return
        self._gone.add(key)
        self.absent[key] = reason(error)
        del self.measured[key]


def reason(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, StreamsegError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


INPUTS = 4
"""Different inputs of an engine, which take turns."""


class FixedOutputEngine(Described):
    """An engine of random weights that runs as it is, and answers with a made-up nerve.

    Its own answers are noise: hundreds of outlines, whose drawing would cost what no trained net's does.
    """

    def __init__(self, engine: Backend) -> None:
        self.info = EngineInfo.of(engine)
        self._engine, self._nerve = engine, ellipse(engine.spec)

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """The made-up probability, once the engine has given its own."""
        self._engine.infer(tensor)
        return self._nerve.copy()

    def close(self) -> None:
        """The engine belongs to somebody else."""


def segmenter_of(subject: Variant) -> Segmenter:
    """What the whole pipeline runs a subject by; the clip says where the image is."""
    return Segmenter(subject.engine if subject.trained else FixedOutputEngine(subject.engine))


def inputs(subject: Variant, clip: Clip) -> list[Tensor]:
    """Inputs (batch, 1, H, W) of consecutive frames of a clip."""
    point, spec = subject.point, subject.engine.spec
    turns = itertools.cycle(clip.frames)
    frames = [next(turns).image for _ in range(INPUTS * point.batch)]
    images = frames if clip.roi is None else [clip.roi.crop(frame) for frame in frames]
    tensors = [to_tensor(image, spec) for image in images]
    return [np.concatenate(tensors[k * point.batch : (k + 1) * point.batch]) for k in range(INPUTS)]


def is_reference(subject: Variant) -> bool:
    """Whether others on its device are compared with it: torch eager FP32 as trained."""
    return subject.backend in (EAGER, EAGER_GPU) and subject.precision == "fp32" and not subject.folded


def on_gpu(subject: Variant) -> bool:
    """Whether it runs on a GPU."""
    return subject.backend in ON_GPU or EngineInfo.of(subject.engine).on_gpu
