"""Other programs beside ours: the same weights in other runtimes, and other pipelines around the same engine.

Each is made ready and checked first: one that computes something else, fails or hangs is left out and named.
Those of a kind take turns in rounds, and each is compared with ours within the rounds; the machine's limits
are measured before and after all of them. Runtimes are timed by single calls, from tensor to probability; a
pipeline by whole runs over the clip's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from streamseg.backends.loading import load_backend, shipped_engine
from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.peers.measure import PeersSchedule, time_peers
from streamseg.benchmark.peers.peer import Maker, prepare
from streamseg.benchmark.peers.pipelines import Task, frames_in, pipelines
from streamseg.benchmark.peers.runtimes import RuntimeContext, runtimes, write_onnx
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.run import PACKAGES, BenchOptions, BenchRun
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.types import Backend, Roi, Say, Tensor
from streamseg.engines.checkpoint import Checkpoint
from streamseg.export.recipe import gather, phantom_recipe
from streamseg.export.source import resolve
from streamseg.segmentation.preprocess import to_tensor

KINDS = ("runtime", "pipeline")
NET, SIZE = "improved_unet", (192, 224)
MAX_SIDE = 1024
"""Of an input: above, some of the peers take gigabytes of memory, and minutes per frame."""
PREPARING_SHARE = 0.6
"""Of the time that a kind has, the share in which peers may be made ready."""
FRAMES = 6
"""Different frames that single calls get, in turn."""
FULL = PeersSchedule(rounds=5, block_seconds=0.5, run_rounds=3, run_frames=96, calibration_frames=32)
QUICK = PeersSchedule(rounds=3, block_seconds=0.2, run_rounds=2, run_frames=32, calibration_frames=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersOptions(BenchOptions):
    """What is measured."""

    kinds: tuple[str, ...] = KINDS
    size: tuple[int, int] = SIZE
    """Height and width of the nets' input."""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise UsageError(f"no kind of peers is called {unknown[0]!r}; choose among {', '.join(KINDS)}")
        if max(self.size) > MAX_SIDE:
            raise UsageError(
                f"peers are measured on inputs of sides up to {MAX_SIDE}, received {self.size[0]}x"
                f"{self.size[1]}; give a smaller size"
            )

    @property
    def schedule(self) -> PeersSchedule:
        usual = QUICK if self.quick else FULL
        rounds, run_rounds = self.rounds or usual.rounds, self.rounds or usual.run_rounds
        return replace(usual, rounds=rounds, run_rounds=run_rounds)


def measure_peers(options: PeersOptions, say: Say = lambda _: None) -> list[PeerRow]:
    """A row per peer and per one of ours; what is left out is in the rows' ``run.absent``.

    Ctrl-C ends it with the rows of the finished kinds: ``run.stopped`` is then true. Raises UsageError for a
    size that the net does not take, what opening the clip raises, EngineError if nothing could be measured,
    and KeyboardInterrupt if nothing was finished.
    """
    checkpoint, schedule = resolve(NET, options.size), options.schedule
    kinds = list(dict.fromkeys(options.kinds))
    rows: list[PeerRow] = []
    with BenchRun(options, say, packages=(*PACKAGES, "supervision")) as run:
        clip = run.open_clip()

        def all_kinds() -> None:
            while kinds:
                limit = run.limit.part(1 / len(kinds))
                makers = _makers(kinds[0], options, checkpoint, clip, run)
                within = limit.part(PREPARING_SHARE)
                peers = prepare(kinds[0], makers, run.absent, say, limit=within)
                rows.extend(time_peers(kinds[0], peers, schedule, run.absent, say, limit=limit))
                kinds.pop(0)

        run.measure(all_kinds, finished=lambda: bool(rows))
    run.absent.update(dict.fromkeys(kinds, run.why_unfinished))
    if not rows:
        raise EngineError(f"nothing could be measured: {'; '.join(run.absent.values())}")
    info = run.info(schedule.to_json())
    return [replace(row, run=info) for row in rows]


def _makers(
    kind: str, options: PeersOptions, checkpoint: Checkpoint, clip: Clip, run: BenchRun
) -> dict[str, Maker]:
    schedule = options.schedule
    if kind == "pipeline":
        frames = frames_in(clip.uri, schedule.run_frames)
        task = Task(
            clip,
            frames,
            partial(_engine, options, checkpoint),
            run.folder,
            exact=partial(_exact_engine, options, checkpoint),
            onnx=partial(write_onnx, checkpoint, run.folder),
            at_end=run.at_end,
        )
        return pipelines(task)
    tensors, calibration = _tensors(clip, checkpoint), _calibration(checkpoint, schedule.calibration_frames)
    context = RuntimeContext(checkpoint, tensors, options.threads, run.folder, calibration)
    return runtimes(context, quick=options.quick)


def _engine(options: PeersOptions, checkpoint: Checkpoint, throughput: bool) -> Backend:
    """The engine of the pipelines: the shipped INT8 one; at another size than its own, our FP32 one."""
    if options.size == SIZE:
        return load_backend(shipped_engine(NET), threads=options.threads, throughput=throughput)
    return _exact_engine(options, checkpoint, throughput=throughput)


def _exact_engine(options: PeersOptions, checkpoint: Checkpoint, *, throughput: bool = True) -> Backend:
    """Our FP32 engine."""
    return OpenVINOBackend.from_checkpoint(
        checkpoint, f"{NET}-openvino-fp32", threads=options.threads, throughput=throughput
    )


def _tensors(clip: Clip, checkpoint: Checkpoint) -> Sequence[Tensor]:
    """Frames from all over the clip, as they enter the net."""
    chosen = clip.frames[:: max(1, len(clip.frames) // FRAMES)][:FRAMES]
    regions = [(clip.roi or Roi.whole(frame)).crop(frame.image) for frame in chosen]
    return [to_tensor(region, checkpoint.spec) for region in regions]


def _calibration(checkpoint: Checkpoint, count: int) -> Sequence[Tensor]:
    images = gather(phantom_recipe(NET, calibration=count, validation=0), None).calibration
    return [to_tensor(image, checkpoint.spec) for image in images]
