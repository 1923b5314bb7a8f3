"""The benchmark of the three nets: every way to run each of them, measured side by side.

A point is one net at one size and batch. All ways to run it are loaded at once and called in turn, in rounds,
together with the kernels that show what the machine can do at most (:mod:`streamseg.benchmark.limits`); the
whole pipeline with each of them runs in the same rounds. Then each runs live at 30 and 60 frames per second,
is judged on labelled pictures, and starts in a process of its own.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.backends.loading import WEIGHTS
from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.clip import open_clip
from streamseg.benchmark.flops import Work, work_of
from streamseg.benchmark.limits import Kernel, gpu_kernels, gpu_synchronize, limits, processor_kernels
from streamseg.benchmark.nets.accuracy import Pictures, pictures
from streamseg.benchmark.nets.measure import MeasurementContext, NetMeasurement, reason
from streamseg.benchmark.nets.rows import Context, is_gpu_kernel, make_rows, run_limits
from streamseg.benchmark.nets.schedule import FULL, QUICK, Schedule
from streamseg.benchmark.nets.variants import (
    ON_GPU,
    InputShape,
    Variant,
    VariantBuilder,
    VariantSpec,
    check_nets,
    plan,
)
from streamseg.benchmark.provenance import OtherLoad
from streamseg.benchmark.rows import Row, finish_run, start_run
from streamseg.benchmark.timing import STOPPED, Timing, add_rounds
from streamseg.core.errors import EngineError, MissingExtra, UsageError
from streamseg.core.hardware import this_machine
from streamseg.core.types import Say
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.export.source import DEFAULT_SIZE, MULTIPLES, is_shipped

Make = Callable[[InputShape], tuple[list[Variant], dict[str, str]]]
"""Subjects of a point, and why what was asked for is absent, by key."""

SHARES = {"improved_unet": 16, "unet": 9, "segnet": 22}
"""Of a run's time: SegNet computes four times as much and takes the longest to build; the one that is trained
is also judged."""
MOST_SIDE = 2048
"""Of an input: above, nets take gigabytes and minutes a frame."""


@dataclass(frozen=True, slots=True)
class NetsOptions:
    """What is to be measured. Empty means what there is by itself."""

    threads: int
    nets: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    """Height and width."""
    batches: tuple[int, ...] = (1,)
    source: str | None = None
    """A recorded clip; None is a phantom's."""
    data: Path | None = None
    """Labelled images; None is phantoms."""
    last: float | None = None
    """Only the last share of them, 0..1."""
    rounds: int | None = None
    quick: bool = False
    regime: Schedule | None = None
    """None is that of ``quick``, or the full one."""
    arguments: tuple[str, ...] = ("bench", "nets")
    """The command line, for the record."""

    def points(self) -> list[InputShape]:
        """All points in order. Raises UsageError for a net or size that there is not."""
        found = []
        for net in check_nets(self.nets):
            for height, width in self.sizes or [own_size(net)]:
                step = MULTIPLES[net]
                if height < step or width < step or height % step or width % step:
                    near = [max(step, round(side / step) * step) for side in (height, width)]
                    raise UsageError(
                        f"{net} takes inputs whose sides are multiples of {step}, received {height}x{width}; "
                        f"use {near[0]}x{near[1]}"
                    )
                if max(height, width) > MOST_SIDE:
                    raise UsageError(
                        f"nets are measured on inputs of sides up to {MOST_SIDE}, received {height}x{width}; "
                        "give a smaller size"
                    )
                found += [InputShape(net, height, width, batch) for batch in self.batches]
        return list(dict.fromkeys(found))


def own_size(net: str) -> tuple[int, int]:
    """The input size (height, width) of a net's shipped weights, or that of nets without any."""
    if not is_shipped(net):
        return DEFAULT_SIZE
    spec = read_checkpoint(WEIGHTS / f"{net}.safetensors").spec
    return spec.height, spec.width


def measure_nets(
    options: NetsOptions, say: Say, *, make: Make | None = None, kernels: Sequence[Kernel] | None = None
) -> list[Row]:
    """Measure; a row of each way to run each net. ``make`` and ``kernels`` stand in for real ones in tests.

    Ctrl-C ends it with the rows of what is finished: the run's ``stopped`` is then true. Raises UsageError,
    SourceError for the clip, DataError for the labelled images, EngineError where nothing could be measured,
    and KeyboardInterrupt where nothing was finished.
    """
    regime = options.regime or (QUICK if options.quick else FULL)
    regime = replace(regime, rounds=options.rounds or regime.rounds)
    points = options.points()
    gpu = bool(this_machine().gpu)
    ways, absent = plan(options.backends, options.precisions, gpu=gpu, quick=options.quick)
    samples = pictures(regime.pictures, options.data, options.last)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="streamseg-bench-") as folder, OtherLoad() as others:
        scratch = Path(folder)
        kernels = _kernels(options.threads, ways) if kernels is None else kernels
        setting = _setting(options, regime, kernels, samples, scratch)
        run = start_run(
            options.arguments,
            quick=options.quick,
            threads=options.threads,
            source=setting.clip.to_json(),
            regime=regime.to_json(),
        )
        run["stopped"] = False
        shop = VariantBuilder(
            scratch,
            options.threads,
            calibration=regime.calibration,
            untrained_calibration=regime.untrained_calibration,
            starts=regime.starts,
            say=say,
        )
        bench = _Bench(setting, make or partial(shop.make, ways=ways), run, say, began)
        bench.measure(points)
    finish_run(
        run,
        seconds=time.monotonic() - began,
        others_share=others.share,
        limits=run_limits(kernels, bench.kernels),
        absent=absent | bench.absent,
    )
    if not bench.rows:
        if run["stopped"]:
            raise KeyboardInterrupt
        why = next(iter(bench.absent.values()), "there was nothing to measure")
        raise EngineError(f"no net could be measured: {why}")
    return bench.rows


@dataclass(slots=True, repr=False)
class _Bench:
    """A run over points, and what has come of it so far."""

    setting: MeasurementContext
    make: Make
    run: dict[str, Any]
    say: Say
    began: float
    """Monotonic seconds."""
    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, Timing] = field(default_factory=dict)

    def measure(self, points: Sequence[InputShape]) -> None:
        for number, point in enumerate(points):
            self.say(f"{point} ({number + 1} of {len(points)})")
            try:
                self.rows += self.measure_point(point, self._end_of(points[number:]))
            except KeyboardInterrupt:
                self.run["stopped"] = True
                self.absent.update((str(left), STOPPED) for left in points[number:])
                return

    def measure_point(self, point: InputShape, until: float) -> list[Row]:
        """One point, which is to be done by ``until`` (monotonic seconds) where that can be."""
        try:
            with kept_signal_stack():  # compilers call OpenVINO past our back end
                subjects, absent = self.make(point)
        except (UsageError, EngineError) as error:  # weights that need torch, or do not fit
            self.absent[str(point)] = reason(error)
            return []
        self.absent |= absent
        done = NetMeasurement(subjects, replace(self.setting, kernels=self._telling_kernels()), until)
        try:
            done.run()
        finally:
            with kept_signal_stack():
                for subject in subjects:
                    if subject.key not in done.absent:  # one that hangs is still in use
                        subject.engine.close()
        self.absent |= done.absent
        add_rounds(self.kernels, done.kernels)
        context = Context(
            self.run, _work(point), self.setting.kernels, done.kernels, self.setting.pictures.words
        )
        rows = make_rows(done.measured, context)
        for row in rows:
            self.say(f"{row['key']}: {row['engine_fps']:.1f} frames/s")
        return rows

    def _end_of(self, left: Sequence[InputShape]) -> float:
        """When the first of the points that are left is to be done, building included."""
        total_s = self.setting.regime.total_s
        if total_s is None:
            return math.inf
        now = time.monotonic()
        shares = [SHARES[point.net] for point in left]
        return now + max(0.0, self.began + total_s - now) * shares[0] / sum(shares)

    def _telling_kernels(self) -> list[Kernel]:
        """Those that show the machine's limits; where time is short, the fastest of those timed before."""
        kernels = list(self.setting.kernels)
        if self.setting.regime.total_s is None or not self.kernels:
            return kernels
        best = {limit.kernel for kind, limit in limits(kernels, self.kernels).items() if kind != "copy"}
        return [kernel for kernel in kernels if kernel.name in best]


def _setting(
    options: NetsOptions, regime: Schedule, kernels: Sequence[Kernel], samples: Pictures, scratch: Path
) -> MeasurementContext:
    """Open the clip, and put a frame of it where processes of their own find it."""
    clip = open_clip(options.source, scratch, frames=regime.clip_frames)
    path = scratch / "frame.npy"
    image = clip.frames[0].image
    np.save(path, image if clip.roi is None else clip.roi.crop(image))
    return MeasurementContext(regime, clip, kernels, samples, path, options.threads, _waiting(kernels))


def _work(point: InputShape) -> Work | None:
    try:
        return work_of(point.net, point.height, point.width, batch=point.batch)
    except MissingExtra:
        return None


def _kernels(threads: int, ways: Sequence[VariantSpec]) -> list[Kernel]:
    """What shows the limits of the devices that are measured."""
    with kept_signal_stack():
        found = processor_kernels(threads)
    if not any(way.backend in ON_GPU for way in ways) or not _torch_has_gpu():
        return found
    return found + [replace(kernel, name=f"GPU {kernel.name}") for kernel in gpu_kernels()]


def _torch_has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _waiting(kernels: Sequence[Kernel]) -> Callable[[], object] | None:
    return gpu_synchronize() if any(is_gpu_kernel(kernel) for kernel in kernels) else None
