"""Other programs beside ours, in one run: the same weights in other runtimes, and other pipelines around the
same engine.

Each is made ready and checked first: one that computes something else, fails or hangs is left out and named.
Those of a kind take turns in rounds, and each is compared with ours within the rounds; before all of them and
after them comes what the machine can do at most. Runtimes are timed by single calls, from tensor to
probability; a pipeline by whole runs over the clip's file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from streamseg.backends.loading import DEFAULT, load_backend
from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.benchmark.clip import Clip, open_clip
from streamseg.benchmark.limits import MachineLimits
from streamseg.benchmark.peers.peer import Maker, prepare
from streamseg.benchmark.peers.pipelines import Task, frames_in, pipelines
from streamseg.benchmark.peers.rows import PeersSchedule, time_peers
from streamseg.benchmark.peers.runtimes import RuntimeContext, runtimes
from streamseg.benchmark.provenance import OtherLoad
from streamseg.benchmark.rows import PACKAGES, Row, finish_run, start_run
from streamseg.benchmark.timing import STOPPED
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.types import Backend, Roi, Say, Tensor
from streamseg.engines.checkpoint import Checkpoint
from streamseg.export.recipe import gather, phantom_recipe
from streamseg.export.source import resolve
from streamseg.segmentation.preprocess import to_tensor

KINDS = ("runtime", "pipeline")
NET, SIZE = "improved_unet", (192, 224)
MOST_SIDE = 1024
"""Of an input: above, some of the peers take gigabytes of memory, and minutes for a frame."""
FRAMES = 6
"""Different frames that single calls get, in turn."""


FULL, QUICK = PeersSchedule(5, 0.5, 3, 96, 32), PeersSchedule(3, 0.2, 2, 32, 8)


@dataclass(frozen=True, slots=True)
class PeersOptions:
    """What is measured."""

    kinds: tuple[str, ...] = KINDS
    source: str | None = None
    """A recorded clip; None is a phantom clip."""
    size: tuple[int, int] = SIZE
    """Height and width of the nets' input."""
    rounds: int | None = None
    """None: as many as the effort says."""
    quick: bool = False
    threads: int = 1
    """Of ours and of every peer."""
    arguments: tuple[str, ...] = ()
    """The command line, as the result says it."""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise UsageError(f"no kind of peers is called {unknown[0]!r}; choose among {', '.join(KINDS)}")
        if max(self.size) > MOST_SIDE:
            raise UsageError(
                f"peers are measured on inputs of sides up to {MOST_SIDE}, received {self.size[0]}x"
                f"{self.size[1]}; give a smaller size"
            )

    @property
    def effort(self) -> PeersSchedule:
        plan = QUICK if self.quick else FULL
        return replace(plan, rounds=self.rounds or plan.rounds, run_rounds=self.rounds or plan.run_rounds)


def measure_peers(options: PeersOptions, say: Say = lambda _: None) -> list[Row]:
    """A row per peer and per one of ours; what is left out is in the rows' ``run["absent"]``.

    Ctrl-C ends it with the rows of the kinds that are finished: the run's ``stopped`` is then true. Raises
    UsageError for a size that the net does not take, what opening the clip raises, EngineError where nothing
    could be measured, and KeyboardInterrupt where nothing was finished.
    """
    checkpoint, began = resolve(NET, options.size), time.monotonic()
    with (
        TemporaryDirectory(prefix="streamseg-", ignore_cleanup_errors=True) as folder,
        MachineLimits(options.threads, say) as machine,
        OtherLoad() as others,
    ):
        clip = open_clip(options.source, Path(folder))
        run = start_run(
            options.arguments,
            quick=options.quick,
            threads=options.threads,
            source=clip.to_json(),
            regime=options.effort.to_json(),
            packages=(*PACKAGES, "supervision"),
        )
        found = _Found(list(dict.fromkeys(options.kinds)))

        def makers(kind: str) -> dict[str, Maker]:
            return _makers(kind, options, checkpoint, clip, Path(folder))

        run["stopped"] = machine.around(
            lambda: _measure(found, makers, options.effort, say),
            kept=lambda: bool(found.rows),
            stopped=found.leave_out_the_rest,
        )
    finish_run(
        run,
        seconds=time.monotonic() - began,
        others_share=others.share,
        limits=machine.to_json(),
        absent=found.absent,
    )
    if not found.rows:
        raise EngineError(f"nothing could be measured: {'; '.join(found.absent.values())}")
    return [{**row, "run": run} for row in found.rows]


@dataclass(slots=True)
class _Found:
    """What has come of it so far."""

    left: list[str]
    """Kinds that are not finished."""
    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def leave_out_the_rest(self) -> None:
        """Ctrl-C came: kinds that are not finished are ``absent`` for that."""
        self.absent.update(dict.fromkeys(self.left, STOPPED))


def _measure(
    found: _Found, makers: Callable[[str], dict[str, Maker]], effort: PeersSchedule, say: Say
) -> None:
    """Time one kind of peers after another. Ctrl-C passes through; what was finished is kept."""
    while found.left:
        kind = found.left[0]
        peers = prepare(kind, makers(kind), found.absent, say)
        found.rows += time_peers(kind, peers, effort, found.absent, say)
        found.left.pop(0)


def _makers(
    kind: str, options: PeersOptions, checkpoint: Checkpoint, clip: Clip, folder: Path
) -> dict[str, Maker]:
    if kind == "pipeline":
        frames = frames_in(clip.uri, options.effort.run_frames)
        return pipelines(Task(clip, frames, partial(_engine, options, checkpoint), folder))
    tensors = _tensors(clip, checkpoint)
    return runtimes(
        RuntimeContext(
            checkpoint, tensors, options.threads, folder, _calibration(checkpoint, options.effort.calibration)
        ),
        quick=options.quick,
    )


def _engine(options: PeersOptions, checkpoint: Checkpoint, throughput: bool) -> Backend:
    """What the pipelines run: the shipped INT8 engine; at another size than its own, our FP32 one."""
    if options.size == SIZE:
        return load_backend(DEFAULT, threads=options.threads, throughput=throughput)
    return OpenVINOBackend.from_checkpoint(
        checkpoint, f"{NET}-openvino-fp32", threads=options.threads, throughput=throughput
    )


def _tensors(clip: Clip, checkpoint: Checkpoint) -> list[Tensor]:
    """Frames of the clip from all over it, as they enter the net."""
    chosen = clip.frames[:: max(1, len(clip.frames) // FRAMES)][:FRAMES]
    regions = [(clip.roi or Roi.whole(frame.image)).crop(frame.image) for frame in chosen]
    return [to_tensor(region, checkpoint.spec) for region in regions]


def _calibration(checkpoint: Checkpoint, count: int) -> list[Tensor]:
    images = gather(phantom_recipe(NET, calibration=count, validation=0), None).calibration
    return [to_tensor(image, checkpoint.spec) for image in images]
