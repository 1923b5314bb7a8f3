"""One net at one input shape: its variants interleaved, then live, on images, and from the start of a
process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isinf
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamseg.backends.fake import ellipse
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import RunOutcome
from streamseg.benchmark.limits import Kernel
from streamseg.benchmark.live_probe import LiveOutcome, paced
from streamseg.benchmark.nets.accuracy import (
    Accuracy,
    Answers,
    LabelledImages,
    answers_of,
    judge,
)
from streamseg.benchmark.nets.schedule import MAX_FRAMES, Schedule
from streamseg.benchmark.nets.start import Start, start
from streamseg.benchmark.nets.variants import Variant
from streamseg.benchmark.pipeline.replay_run import end_to_end
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.benchmark.timing import Call, CallTimeout, Timing, calls_for, interleave, seconds_of
from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import EngineError, StallError, one_line
from streamseg.core.types import Backend, Tensor
from streamseg.segmentation.preprocess import to_tensor
from streamseg.segmentation.segmenter import Segmenter

T = TypeVar("T")
END = ", end to end"
INPUTS = 4
"""Different inputs of an engine, used in turn."""
ROUNDS_SHARE = 0.7
"""Of the time that a net has, the share in which rounds may begin; the rest is for images and live runs."""
IMAGES_SHARE = 0.6
"""Of the time that is left after the rounds, the share for labelled images."""


@dataclass(slots=True, repr=False)
class MeasuredVariant:
    """The results of one variant."""

    variant: Variant
    timing: Timing | None = None
    replays: list[RunOutcome] = field(default_factory=list)
    """End to end, one per round; empty for batches."""
    paced: list[LiveOutcome] = field(default_factory=list)
    accuracy: Accuracy | None = None
    start: Start | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, repr=False)
class MeasurementContext:
    """What all nets of a run have in common."""

    schedule: Schedule
    clip: Clip
    kernels: Sequence[Kernel]
    images: LabelledImages
    frame: Path
    """A frame as a .npy file, for processes of their own."""
    threads: int
    synchronize: Call | None = None
    """Waits for the GPU, if kernels only start work on one."""
    seen: Mapping[str, int] = field(default_factory=dict)
    """By net, how many of the images its weights were trained on."""


class NetMeasurement:
    """Measures the variants of one net. One that fails or hangs is left out, and ``absent`` says why."""

    def __init__(
        self, variants: Sequence[Variant], context: MeasurementContext, limit: TimeLimit | None = None
    ) -> None:
        """``limit``: when it is to be done. If time is short it takes fewer rounds and images, and no live
        runs or starts."""
        self.measured = {variant.key: MeasuredVariant(variant) for variant in variants}
        self.absent: dict[str, str] = {}
        self.kernels: dict[str, Timing] = {}
        """The kernels of the limits, timed among the variants."""
        self._longest_start_s = 0.0
        self.context, self._schedule, self._limit = context, context.schedule, limit or TimeLimit()

    def run(self) -> None:
        """Measure, the interleaved part first. Raises nothing that a variant raises."""
        self._time()
        self._judge()
        steps: dict[str, Callable[[MeasuredVariant], None]] = {"at a pace": self._pace}
        if self._schedule.starts:
            steps["start"] = self._start
        for what, step in steps.items():
            for key in list(self.measured):
                self._attempt(key, what, partial(step, self.measured[key]))

    def _time(self) -> None:
        """Engine calls, kernels and end-to-end runs, interleaved."""
        schedule, wait = self._schedule, self.context.synchronize
        calls: dict[str, Call] = {key: self._call(one.variant) for key, one in self.measured.items()}
        calls |= {kernel.name: kernel.call for kernel in self.context.kernels}
        first = self._first(calls)
        replays = self._replays(first)
        kernels = {kernel.name for kernel in self.context.kernels}
        works = {name: calls[name] for name in first if name not in kernels}
        works |= replays  # before the kernels: if time is short, they say more
        works |= {name: calls[name] for name in first if name in kernels}
        if not works:
            return
        per_round, lead_in = dict.fromkeys(works, 1), dict.fromkeys(works, 0)
        for name, seconds in first.items():
            block_s = schedule.block_seconds / (1 if name in self.measured else 3)
            per_round[name] = calls_for(seconds, block_s)
            if seconds <= schedule.lead_in_below_seconds:
                lead_in[name] = schedule.lead_in_calls
        found = interleave(
            works,
            rounds=schedule.rounds,
            per_round=per_round,
            warmup=0,
            lead_in=lead_in,
            synchronize=wait,
            budget_s=schedule.budget_seconds,
            min_rounds=schedule.least_rounds,
            stall_s=schedule.stall_seconds,
            on_failure=self._failed,
            limit=self._limit.part(ROUNDS_SHARE),
        )
        for name, timing in found.items():
            if name in self.measured:
                self.measured[name].timing = timing
            elif name not in replays:
                self.kernels[name] = timing

    def _first(self, calls: Mapping[str, Call]) -> dict[str, float]:
        """Seconds of each one's last warm-up call."""
        found = {}
        with CallTimeout(self._schedule.stall_seconds) as timeout:
            for name, call in calls.items():
                if not self._limit.fits():
                    self._failed(name, EngineError(TOO_LATE))
                    continue
                work = partial(
                    seconds_of,
                    call,
                    warmup=self._schedule.warmup_calls - 1,
                    synchronize=self.context.synchronize,
                    clock_ns=self._limit.clock_ns,
                )
                try:
                    found[name] = timeout.run(work)
                except Exception as error:
                    self._failed(name, error)
        return found

    def _replays(self, first: Mapping[str, float]) -> dict[str, Call]:
        """A block of the whole pipeline for each variant that takes one frame at a time."""
        schedule, found = self._schedule, dict[str, Call]()
        for key, one in self.measured.items():
            if one.variant.shape.batch == 1:
                wanted = round(schedule.end_to_end_seconds / max(first[key], 1e-6))
                frames = min(MAX_FRAMES, max(schedule.end_to_end_least_frames, wanted))
                found[key + END] = partial(self._replay, one, frames)
        return found

    def _replay(self, one: MeasuredVariant, frames: int) -> None:
        if one.variant.key in self.absent:
            raise StallError("its engine was left out")
        segmenter, stall_s = segmenter_of(one.variant), self._schedule.stall_seconds
        one.replays.append(end_to_end(self.context.clip, segmenter, frames, stall_s=stall_s))

    def _call(self, variant: Variant) -> Call:
        turns = itertools.cycle(inputs(variant, self.context.clip))
        infer = variant.engine.infer
        return lambda: infer(next(turns))

    def _pace(self, one: MeasuredVariant) -> None:
        if one.variant.shape.batch != 1:
            return
        segmenter = segmenter_of(one.variant)
        for pace in self._schedule.paces_fps:
            if not self._limit.fits(self._schedule.paced_seconds):
                one.notes.append(f"not run live at {pace:g} frames/s: the run was late")
                return
            one.paced.append(paced(self.context.clip, segmenter, pace, self._schedule.paced_seconds))
            too_slow = one.timing is not None and one.timing.median_ms > 1e3 / pace
            if too_slow and not self._schedule.all_paces:
                return

    def _start(self, one: MeasuredVariant) -> None:
        if not one.variant.start_task:
            return
        if not self._limit.fits(self._longest_start_s):
            one.notes.append("not started in a process of its own: the run was late")
            return
        began_s = self._limit.now_s()
        one.start = start(
            one.variant.start_task,
            self.context.frame,
            threads=self.context.threads,
            limit_s=self._schedule.stall_seconds,
        )
        took_s = self._limit.now_s() - began_s
        self._longest_start_s = max(took_s, self._longest_start_s)

    def _judge(self) -> None:
        """Compare the answers of all variants on the same images, FP32's reference first.

        If time is short, on the first of them; at least on one.
        """
        reference: Answers | None = None
        affordable = self._affordable_images()
        for key in sorted(self.measured, key=lambda key: not is_reference(self.measured[key].variant)):
            one = self.measured[key]
            samples = self.context.images.samples
            if not one.variant.trained:
                samples = samples[: self._schedule.untrained_images]
            if not self._limit.fits():
                one.notes.append("not compared on images: the run was late")
                continue
            if affordable < len(samples):
                few = (
                    f"compared with FP32 on {affordable} of {len(samples)} images: the run was to end in time"
                )
                one.notes.append(few)
                samples = samples[:affordable]
            call_s = 0.0 if one.timing is None else one.timing.median_ms / 1e3
            work = partial(answers_of, one.variant.engine, samples)
            found = self._attempt(key, "accuracy", work, extra_s=len(samples) * (1 + 10 * call_s))
            if found is None:
                continue
            if reference is None and one.variant.spec.precision == "fp32":
                reference = found
            one.accuracy = judge(found, reference, trained=one.variant.trained)
            if len(samples) < len(self.context.images.samples):  # it would be another figure than others'
                one.accuracy = replace(one.accuracy, dice=None)
            if one.variant.trained and (seen := self.context.seen.get(one.variant.shape.net)):
                one.accuracy = replace(one.accuracy, dice=None)
                one.notes.append(f"no Dice: its weights were trained on {seen} of the {len(samples)} images")

    def _affordable_images(self) -> int:
        """How many images all variants can be given in their share of the time, by their calls so far."""
        left_s = IMAGES_SHARE * self._limit.left_s
        if isinf(left_s):
            return len(self.context.images.samples)
        known = [one.timing.median_ms / 1e3 for one in self.measured.values() if one.timing is not None]
        return max(1, int(left_s / max(sum(known), 1e-6)))

    def _attempt(self, key: str, what: str, work: Callable[[], T], extra_s: float = 0.0) -> T | None:
        """What the work returns; None if it fails, which is noted, or hangs, which leaves the variant out."""
        schedule = self._schedule
        paced_s = schedule.paced_seconds * len(schedule.paces_fps)
        with CallTimeout(schedule.stall_seconds + paced_s + extra_s) as timeout:
            try:
                return timeout.run(work)
            except StallError as error:
                self._failed(key, error)
            except Exception as error:
                self.measured[key].notes.append(f"{what}: {one_line(error, 300)}")
        return None

    def _failed(self, name: str, error: Exception) -> None:
        """A kernel, the whole pipeline of a variant, or a variant that cannot go on."""
        key = name.removesuffix(END)
        if name != key and key in self.measured and not isinstance(error, StallError):
            self.measured[key].replays.clear()
            self.measured[key].notes.append(f"end to end: {one_line(error, 300)}")
            return
        self.absent.setdefault(key, one_line(error, 300))
        self.measured.pop(key, None)


class FixedOutputEngine(Described):
    """Runs an engine of random weights, and answers with a made-up nerve.

    Its own answers are noise: hundreds of outlines, whose drawing would cost what that of no trained net
    does.
    """

    def __init__(self, engine: Backend) -> None:
        self.info = EngineInfo.of(engine)
        self._engine = engine
        self._planes = np.zeros(
            (len(engine.spec.structures), engine.spec.height, engine.spec.width), np.float32
        )
        self._planes[0] = ellipse(engine.spec)

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """The made-up probabilities, without other structures, after the engine has given its own."""
        self._engine.infer(tensor)
        return self._planes.copy()

    def close(self) -> None:
        """The engine belongs to the caller."""


def segmenter_of(variant: Variant) -> Segmenter:
    """Runs a variant in the whole pipeline; the clip says where the image is."""
    return Segmenter(variant.engine if variant.trained else FixedOutputEngine(variant.engine))


def inputs(variant: Variant, clip: Clip) -> list[Tensor]:
    """Inputs (batch, 1, H, W) of consecutive frames of a clip."""
    batch, spec = variant.shape.batch, variant.engine.spec
    turns = itertools.cycle(clip.frames)
    frames = [next(turns).image for _ in range(INPUTS * batch)]
    images = frames if clip.roi is None else [clip.roi.crop(frame) for frame in frames]
    tensors = [to_tensor(image, spec) for image in images]
    return [np.concatenate(tensors[k * batch : (k + 1) * batch]) for k in range(INPUTS)]


def is_reference(variant: Variant) -> bool:
    """Whether others on its device are compared with it: torch eager FP32 as trained."""
    return variant.spec.is_eager and variant.spec.precision == "fp32" and not variant.spec.folded
