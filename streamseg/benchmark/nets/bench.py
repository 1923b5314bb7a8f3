"""The benchmark of the nets: every way to run each of them, measured side by side.

All variants of one net at one input size and batch are loaded at once and called in turn, in rounds, together
with the kernels that show the machine's limits (:mod:`streamseg.benchmark.limits`); the whole pipeline with
each of them runs in the same rounds. After that each runs live at 30 and 60 frames per second, segments
labelled images, and starts in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from streamseg.backends.loading import WEIGHTS, weights_file
from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.flops import Work, work_of
from streamseg.benchmark.limits import GPU, Kernel, gpu_synchronize, kernels_of, limits
from streamseg.benchmark.nets.accuracy import labelled_images, trained_on
from streamseg.benchmark.nets.measure import MeasurementContext, NetMeasurement
from streamseg.benchmark.nets.rows import make_rows
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
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.run import BenchOptions, BenchRun
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.benchmark.timing import Timing, add_rounds
from streamseg.core.errors import EngineError, MissingExtra, UsageError, one_line
from streamseg.core.hardware import this_machine
from streamseg.core.types import Say
from streamseg.engines.checkpoint import MULTIPLES
from streamseg.export.source import DEFAULT_SIZE, is_shipped, read_weights

Make = Callable[[InputShape, TimeLimit], tuple[list[Variant], dict[str, str]]]
"""Makes the variants of a net within a time, and says by key why one that was asked for is absent."""

SHARES = {"improved_unet": 16, "lite_unet": 9, "unet": 9, "segnet": 22}
"""Of a run's time: SegNet computes four times as much and takes the longest to build; the one that is trained
also segments images."""
BUILDING_SHARE = 0.5
"""Of the time that a net has, the share in which engines may begin to be built."""
LATE_SHARE = 0.2
"""Of the time that is left for all, what a net has at least after its engines took longer than its own."""
MAX_SIDE = 2048
"""Of an input: above, nets take gigabytes, and minutes per frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetsOptions(BenchOptions):
    """What is to be measured. Empty means all that this machine has."""

    nets: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    """Height and width."""
    batches: tuple[int, ...] = (1,)
    data: Path | None = None
    """Labelled images; None is phantoms."""
    last: float | None = None
    """Only their last share, 0..1."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """Trained weights (a checkpoint or a run folder) by net, instead of the shipped or random ones."""
    regime: Schedule | None = None
    """None is that of ``quick``, or the full one."""
    arguments: tuple[str, ...] = ("bench", "nets")

    def shapes(self) -> list[InputShape]:
        """Every net at every size and batch, in order. Raises UsageError for unknown nets and sizes."""
        found = []
        for net in check_nets(self.nets):
            for height, width in self.sizes or [own_size(net, self.weights.get(net))]:
                step = MULTIPLES[net]
                if height < step or width < step or height % step or width % step:
                    near = [max(step, round(side / step) * step) for side in (height, width)]
                    raise UsageError(
                        f"{net} takes inputs whose sides are multiples of {step}, received {height}x{width}; "
                        f"use {near[0]}x{near[1]}"
                    )
                if max(height, width) > MAX_SIDE:
                    raise UsageError(
                        f"nets are measured on inputs of sides up to {MAX_SIDE}, received {height}x{width}; "
                        "give a smaller size"
                    )
                found += [InputShape(net, height, width, batch) for batch in self.batches]
        return list(dict.fromkeys(found))


def own_size(net: str, weights: Path | None = None) -> tuple[int, int]:
    """The input size (height, width) of these weights of a net, else of its shipped ones; the default one if
    it has none. Raises EngineError and UsageError for weights that cannot be read."""
    if weights is None and not is_shipped(net):
        return DEFAULT_SIZE
    spec = read_weights(weights or WEIGHTS / f"{net}.safetensors").spec
    return spec.height, spec.width


def measure_nets(
    options: NetsOptions, say: Say, *, make: Make | None = None, kernels: Sequence[Kernel] | None = None
) -> list[NetRow]:
    """A row of each way to run each net. ``make`` and ``kernels`` replace the real ones, for tests.

    Ctrl-C ends it with the rows of what is finished: ``run.stopped`` is then true. Raises UsageError,
    SourceError for the clip, DataError for the labelled images, EngineError if nothing could be measured, and
    KeyboardInterrupt if nothing was finished.
    """
    schedule = options.regime or (QUICK if options.quick else FULL)
    if options.limit.seconds is None:
        options = replace(options, limit=TimeLimit(schedule.total_seconds, clock_ns=options.limit.clock_ns))
    limit = options.limit
    schedule = replace(schedule, rounds=options.rounds or schedule.rounds, total_seconds=limit.seconds)
    shapes = options.shapes()
    specs, absent = plan(
        options.backends, options.precisions, gpu=bool(this_machine().gpu), quick=options.quick
    )
    images = labelled_images(schedule.images, options.data, options.last)
    with BenchRun(options, say) as run:
        clip = run.open_clip(schedule.clip_frames)
        frame = run.folder / "frame.npy"
        image = clip.frames[0].image
        np.save(frame, image if clip.roi is None else clip.roi.crop(image))
        if kernels is None:
            kernels = kernels_of(options.threads, gpu=_uses_gpu(specs))
        waits = any(kernel.kind.startswith(GPU) for kernel in kernels)
        builder = VariantBuilder(
            run.folder,
            options.threads,
            calibration=schedule.calibration_frames,
            untrained_calibration=schedule.untrained_calibration_frames,
            starts=schedule.starts,
            weights=options.weights,
            say=say,
        )
        weights = {net: options.weights.get(net, weights_file(net)) for net in check_nets(options.nets)}
        context = MeasurementContext(
            schedule,
            clip,
            kernels,
            images,
            frame,
            options.threads,
            gpu_synchronize() if waits else None,
            seen={net: trained_on(path, images.samples) for net, path in weights.items()},
        )

        def build(shape: InputShape, within: TimeLimit) -> tuple[list[Variant], dict[str, str]]:
            return builder.make(shape, specs, within)

        bench = _Bench(context, make or build, say, limit)
        run.until_ctrl_c(partial(bench.measure, shapes), finished=lambda: bool(bench.rows))
    bench.absent.update((str(shape), run.why_unfinished) for shape in shapes[bench.done :])
    if not bench.rows:
        why = next(iter(bench.absent.values()), "there was nothing to measure")
        raise EngineError(f"no net could be measured: {why}")
    run.absent = absent | bench.absent
    run.limits = {kind: limit.info() for kind, limit in limits(kernels, bench.kernels).items()}
    info = run.info(schedule.to_json())
    return [replace(row, run=info) for row in bench.rows]


@dataclass(slots=True, repr=False)
class _Bench:
    """Measures one net after the other, and keeps the rows."""

    context: MeasurementContext
    make: Make
    say: Say
    limit: TimeLimit
    """When the last net is to be done."""
    rows: list[NetRow] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, Timing] = field(default_factory=dict)
    done: int = 0
    """Nets that are finished."""

    def measure(self, shapes: Sequence[InputShape]) -> None:
        for number, shape in enumerate(shapes):
            self.say(f"{shape} ({number + 1} of {len(shapes)})")
            shares = [SHARES[left.net] for left in shapes[number:]]
            self.rows += self._net(shape, self.limit.part(shares[0] / sum(shares)))
            self.done += 1

    def _net(self, shape: InputShape, limit: TimeLimit) -> list[NetRow]:
        """The rows of one net, which is to be done, building included, within ``limit``."""
        if not limit.fits():
            self.absent[str(shape)] = TOO_LATE
            return []
        try:
            with kept_signal_stack():  # compilers call OpenVINO without our back end
                variants, absent = self.make(shape, limit.part(BUILDING_SHARE))
        except (UsageError, EngineError) as error:  # weights that need torch, or do not fit
            self.absent[str(shape)] = one_line(error, 300)
            return []
        self.absent |= absent
        context = replace(self.context, kernels=self._kernels())
        limit = max(limit, self.limit.part(LATE_SHARE), key=lambda one: one.left_s)
        measurement = NetMeasurement(variants, context, limit)
        try:
            measurement.run()
            self.absent |= measurement.absent
            add_rounds(self.kernels, measurement.kernels)
            rows = make_rows(measurement, _work(shape))
        finally:
            with kept_signal_stack():
                for variant in variants:
                    if variant.key not in measurement.absent:  # one that hangs is still in use
                        variant.engine.close()
        for row in rows:
            self.say(f"{row.key}: {row.engine_fps:.1f} frames/s")
        return rows

    def _kernels(self) -> list[Kernel]:
        """Those that show the machine's limits; if time is short, after the first net only the fastest."""
        kernels = list(self.context.kernels)
        if math.isinf(self.limit.left_s) or not self.kernels:
            return kernels
        best = {limit.kernel for kind, limit in limits(kernels, self.kernels).items() if "copy" not in kind}
        return [kernel for kernel in kernels if kernel.name in best]


def _work(shape: InputShape) -> Work | None:
    try:
        return work_of(shape.net, shape.height, shape.width, batch=shape.batch)
    except MissingExtra:
        return None


def _uses_gpu(specs: Sequence[VariantSpec]) -> bool:
    """Whether any of these run on a GPU that torch can measure."""
    if not any(spec.backend in ON_GPU for spec in specs):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
