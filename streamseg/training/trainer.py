"""Trains one net; read :meth:`TrainingRun.train` top to bottom.

No random state is carried along: the order of the images, and the augmentation of each, follow from the
seed, the epoch and the image. So a run that was killed ends with the same weights as an unbroken one, and
several processes end with the weights of one. The last epoch's weights are used: none is chosen by its
validation Dice, so the figures on the validation part are not biased by a selection. With ``patience`` that
Dice decides which epoch is the last.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from streamseg.core.errors import DataError, StreamsegError, UsageError
from streamseg.core.types import Grey, InputSpec, Say
from streamseg.datasets.phantoms import open_or_draw, phantom_samples
from streamseg.datasets.reader import Dataset, open_dataset
from streamseg.datasets.split import Fold, RunSplit, last_block
from streamseg.engines.checkpoint import Checkpoint, read_checkpoint
from streamseg.nets import NETS, build_net
from streamseg.phantom import seeds
from streamseg.training.augment import augment, sample_seed
from streamseg.training.cache import Cache, cache_samples, prepare_dataset
from streamseg.training.config import TrainConfig, is_flat, rate_at
from streamseg.training.data import Batch, TrainingData, load_batches
from streamseg.training.devices import flushed_denormals, make_fabric
from streamseg.training.initial_weights import initial_weights, trainable
from streamseg.training.loss import batch_loss
from streamseg.training.restyle import CachedImages, restyle_batch
from streamseg.training.run_folder import (
    STATE,
    WEIGHTS,
    History,
    RunFolder,
    TensorBoardLog,
    TrainingCallbacks,
    TrainingOutcome,
)
from streamseg.training.teachers import TaughtCache, Teachers
from streamseg.training.validate import net_input, validation_dice
from streamseg.training.weights import recompute_statistics, running_average, take_weights, write_weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SAVE_SECONDS = 60.0
"""A run is saved when this time has passed since it was last saved, and at its end."""
SAVE_SHARE = 0.05
"""Maximum share of the time that saving takes: on a busy machine, half a gigabyte a minute is most of the
work."""
WELL_AVERAGED = 10_000
"""Steps that given weights count for in the running average: they are not forgotten as random ones are."""
STATISTICS_IMAGES = 2000
"""Maximum images on which BatchNorm's statistics of averaged weights are measured."""
LOSS_STEPS = 10
"""Steps between two reads of the loss, which comes from the device, is checked and shown."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A training run from files to weights, as ``streamseg train`` describes it; :func:`run` does it."""

    config: TrainConfig
    data: str
    """A data set's folder, or ``phantom`` or ``phantom:N``."""
    folder: Path
    """The run folder: a new one, or that of the run to resume."""
    phantom: int = 0
    """Phantom images, of which ``config.phantom_batch`` are added to each step."""
    absent: tuple[Path, ...] = ()
    """Data sets without nerve, of whose images ``config.absent_batch`` are added to each step."""
    validation: float = 0.2
    """Share of the data that is held back: the last block of subjects; 0 trains on all of it."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``gpu``; several under ``torchrun``."""
    deterministic: bool = False
    """Repeatable on a GPU too."""
    init: str | None = None
    """Weights to begin with (:func:`~streamseg.training.initial_weights.initial_weights`)."""
    teachers: tuple[Path, ...] = ()
    """Checkpoints that teach beside the labels; ``config.teachers`` is their hashes."""

    def __post_init__(self) -> None:
        """Raises UsageError for an unknown net."""
        if self.config.net not in NETS:
            build_net(self.config.net)  # its error lists them


def run(job: TrainingJob, callbacks: TrainingCallbacks | None = None) -> TrainingOutcome | None:
    """Do a job, or resume the run in its folder; the outcome, or None in all processes but the first.

    Raises what :func:`fit` raises, DataError for a bad data set or one that cannot be split, EngineError for
    teachers and weights to begin with that cannot be read.
    """
    fabric = make_fabric(job.device, job.config.precision, deterministic=job.deterministic)
    first = fabric.is_global_zero
    if callbacks is None or not first:
        callbacks = TrainingCallbacks()
    if fabric.world_size > 1:
        callbacks = replace(callbacks, should_stop=lambda: False)
    teachers = None
    if job.teachers:
        teachers = Teachers([read_checkpoint(path) for path in job.teachers], fabric.device)
    if job.config.teachers != (teachers.names if teachers else ""):
        raise UsageError(f"run {job.folder} was begun with other teachers; give the same --teacher files")
    start = None if (job.folder / STATE).exists() else initial_weights(job.init, job.config)
    data = _read_data(job, fabric, callbacks.say, teachers)
    callbacks.on_data(data)
    if isinstance(start, Checkpoint):
        start = trainable(start, job.config, data)
    outcome = fit(
        job.config, data, job.folder, start=start, teachers=teachers, fabric=fabric, callbacks=callbacks
    )
    return outcome if first else None


def _read_data(job: TrainingJob, fabric: Fabric, say: Say, teachers: Teachers | None) -> TrainingData:
    spec = job.config.spec
    with fabric.rank_zero_first():  # one process draws and decodes, the others find it done
        samples = open_or_draw(job.data, job.folder, say=say)
        cache, near_duplicates = prepare_dataset(samples, spec)
    if near_duplicates.groups:
        say(
            f"{len(near_duplicates.groups)} groups of near-identical images, "
            f"{len(near_duplicates.contradictions)} pairs with contradicting masks; none is split "
            "(streamseg check lists them)"
        )
    if job.validation == 0:
        fold = Fold(tuple(range(len(samples))), ())
    else:
        fold = last_block(samples, job.validation, near_duplicates=near_duplicates.groups)
    phantom = None
    if job.phantom:
        seed = seeds.training(job.config.seed).take(job.phantom)
        phantom = cache_samples(phantom_samples(job.phantom, seed=seed), spec)
    with fabric.rank_zero_first():
        absent = read_absent(job.absent, spec) if job.absent else None
    data = TrainingData(cache, fold, phantom, absent)
    if teachers is None or job.config.taught_from == "changed":
        return data
    large = teachers.large(spec)
    seen = {"image": cache_samples(samples, large)}
    if absent is not None:
        seen["absent"] = read_absent(job.absent, large)
    say(f"the teachers look at {sum(map(len, seen.values()))} images at {large.height}x{large.width}")
    return replace(data, targets=targets_of(teachers, seen, job.config))


def targets_of(teachers: Teachers, seen: Mapping[str, Cache], config: TrainConfig) -> dict[str, Tensor]:
    """The teachers' targets (:attr:`TrainingData.targets`) for images of any size, by source."""
    planes = min(teachers.planes, config.outputs)
    size = config.height, config.width
    return {name: teachers.targets(cache.images, size, planes) for name, cache in seen.items()}


def read_absent(folders: Sequence[Path], spec: InputSpec) -> Cache:
    """The images of data sets without nerve. Raises DataError if one has nerve."""
    entries = [entry for folder in folders for entry in open_dataset(folder).entries]
    cache = cache_samples(Dataset(entries), spec)
    with_nerve = cache.labels[:, 0].flatten(1).any(1).nonzero().flatten().tolist()
    if with_nerve:
        raise DataError(
            f"{entries[with_nerve[0]].mask} labels nerve, and {len(with_nerve) - 1} more do; --absent takes "
            "images without nerve, whose masks are all 0"
        )
    return cache


@dataclass(frozen=True, slots=True)
class Source:
    """Images of one kind, of which every step has some."""

    name: str
    """Part of the seeds of its images."""
    cache: Cache
    count: int
    """Images a step, over all processes."""
    strength: float
    """Of their augmentation."""


def sources_of(config: TrainConfig, data: TrainingData) -> list[Source]:
    """The kinds of images that make up a batch, the labelled ones first."""
    found = [Source("image", data.cache, config.batch, config.strength)]
    if data.absent is not None and config.absent_batch:
        found.append(Source("absent", data.absent, config.absent_batch, config.strength))
    if data.phantom is not None and config.phantom_batch:
        found.append(Source("phantom", data.phantom, config.phantom_batch, config.phantom_strength))
    if not data.targets:
        return found
    planes = data.targets[found[0].name].shape[1]
    return [
        replace(source, cache=TaughtCache.of(source.cache, planes, data.targets.get(source.name)))
        for source in found
    ]


@dataclass(frozen=True, slots=True)
class Planned:
    """The images of one source in one step."""

    rows: Tensor
    """int64 (N,): rows of the source's cache."""
    seeds: list[int]
    """Of each image's augmentation."""


def fit(
    config: TrainConfig,
    data: TrainingData,
    out: Path,
    *,
    net: nn.Module | None = None,
    start: Mapping[str, npt.NDArray[Any]] | None = None,
    teachers: Teachers | None = None,
    fabric: Fabric | None = None,
    callbacks: TrainingCallbacks | None = None,
) -> TrainingOutcome:
    """Train, or resume the run in ``out``, or return its outcome if it is finished.

    ``net`` is a net of another kind, with ``config.outputs`` planes; no ``weights.safetensors`` is written
    for it. ``start`` are weights to begin with, ``teachers`` those that ``config.teachers`` names. Raises
    UsageError if ``out`` holds a run of another configuration or data, StreamsegError for a loss that is not
    finite (what was saved before remains), SinkError.
    """
    folder = RunFolder(out, config, data.fingerprint)
    finished = folder.check()
    fabric = fabric or make_fabric("cpu", config.precision)
    training = TrainingRun(config, data, folder, net, fabric, teachers=teachers)
    if (saved := folder.load()) is not None:
        training.restore(*saved)
    elif start is not None:
        training.start_from(start)
    if not finished:
        finished = training.train(callbacks or TrainingCallbacks())
    return TrainingOutcome(training.history, finished, training.result.eval())


class TrainingRun:
    """State of a run: net, optimiser, averaged net and history."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        folder: RunFolder,
        net: nn.Module | None,
        fabric: Fabric,
        *,
        teachers: Teachers | None = None,
    ) -> None:
        """Raises UsageError if the processes cannot share a batch equally."""
        torch.manual_seed(config.seed)
        self.config, self.data, self.folder, self.fabric = config, data, folder, fabric
        self.teachers = teachers
        self.sources = sources_of(config, data)
        self.references = references_of(self.sources, data.fold.train)
        self.ours = net is None
        world = fabric.world_size
        if any(source.count % world for source in self.sources):
            counts = " + ".join(str(source.count) for source in self.sources)
            raise UsageError(
                f"{world} processes cannot share batches of {counts} images; "
                "give multiples of the number of processes"
            )
        self.steps = max(1, len(data.fold.train) // config.batch)
        inner = build_net(config.net, outputs=config.outputs) if net is None else net
        if world > 1 and fabric.device.type == "cuda":
            inner = nn.SyncBatchNorm.convert_sync_batchnorm(inner)  # type: ignore[no-untyped-call]
        inner = inner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(
            inner.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.inner: nn.Module = inner
        self.net, self.optimiser = fabric.setup(inner, optimiser)
        self.average: AveragedModel | None = None
        if config.average:
            running = running_average(config.average)
            self.average = AveragedModel(inner, multi_avg_fn=running, use_buffers=True)
        self.history = History()
        self.log: TensorBoardLog | None = None
        self.saved = time.monotonic()
        self.save_seconds = 0.0

    def start_from(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Begin with given weights; those that are not among them stay random. Raises UsageError for weights
        of another net."""
        take_weights(self.inner, weights)
        if self.average is not None:
            self.average.module.load_state_dict(self.inner.state_dict())
            if weights.keys() >= {name for name, _ in self.inner.named_parameters()}:
                self.average.n_averaged.fill_(WELL_AVERAGED)

    @property
    def result(self) -> nn.Module:
        """The net whose weights are used: the running average if there is one."""
        return self.inner if self.average is None else self.average.module

    @property
    def flat(self) -> bool:
        """Whether the held-back Dice has stopped to rise, so that the run ends before its last epoch."""
        return is_flat([line["dice"] for line in self.history.epochs], self.config)

    def train(self, callbacks: TrainingCallbacks) -> bool:
        """Train until all epochs are done or the Dice is flat (True) or ``should_stop`` says so (False)."""
        if self.fabric.is_global_zero:
            self.folder.announce(finished=False, history=self.history)
            if self.data.cache.frames:
                RunSplit.of(self.data.cache.frames, self.data.fold).write(self.folder.path)
            self.log = TensorBoardLog(self.folder.path, len(self.history.losses))
        try:
            with flushed_denormals():
                return self._train(callbacks)
        finally:
            if self.log is not None:
                self.log.close()

    def _train(self, callbacks: TrainingCallbacks) -> bool:
        callbacks.on_start(len(self.history.losses), self.config.epochs * self.steps)
        while self.history.epoch < self.config.epochs and not self.flat:
            if not self.train_epoch(callbacks):
                self.save()
                return False
            self.close_epoch(callbacks)
            self.save_if_due()
        self.save(finished=True)
        self.fabric.barrier()
        return True

    def train_epoch(self, callbacks: TrainingCallbacks) -> bool:
        """Do the remaining steps of the epoch; False if the run was asked to stop before the last."""
        self.set_mode()
        history = self.history
        pending: list[Tensor] = []
        mark = time.monotonic()
        with ExitStack() as stack:
            parts = [stack.enter_context(closing(self.batches(source))) for source in self.sources]
            for batches in zip(*parts, strict=True):
                if callbacks.should_stop():
                    break
                pending.append(self.step(history.step, reduce(Batch.joined, batches)))
                history.step += 1
                if len(pending) >= LOSS_STEPS or history.step == self.steps:
                    self.read_losses(pending)
                    pending.clear()
                    history.seconds += time.monotonic() - mark
                    done = history.epoch * self.steps + history.step
                    callbacks.on_step(done, self.config.epochs * self.steps, history.losses[-1])
                    if history.step < self.steps:
                        self.save_if_due()
                    mark = time.monotonic()
        if pending:
            self.read_losses(pending)
            history.seconds += time.monotonic() - mark
        return history.step == self.steps

    def batches(self, source: Source) -> Generator[Batch]:
        """This process's augmented images of a source for the remaining steps of this epoch."""
        changes = self.config.changes_at(self.history.epoch)
        return augmented_batches(
            source,
            self.plan(source),
            self.config.restyle,
            self.references,
            self.fabric.device,
            changes=changes,
        )

    def plan(self, source: Source) -> list[Planned]:
        """This process's share of a source's images in each of the remaining steps of this epoch.

        Labelled images are taken in a random order, each once; of the others some are drawn for every step.
        """
        config, epoch = self.config, self.history.epoch
        rank, world = self.fabric.global_rank, self.fabric.world_size
        steps = range(self.history.step, self.steps)
        if source is self.sources[0]:
            seed = sample_seed(config.seed, "order", epoch)
            order = torch.randperm(len(self.data.fold.train), generator=torch.Generator().manual_seed(seed))
            rows = torch.tensor(self.data.fold.train)[order]
            parts = [rows[n * source.count : (n + 1) * source.count][rank::world] for n in steps]
            return [
                Planned(part, [sample_seed(config.seed, source.name, epoch, row) for row in part.tolist()])
                for part in parts
            ]
        found = []
        for step in steps:
            seed = sample_seed(config.seed, source.name, epoch, step)
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randint(len(source.cache), (source.count,), generator=generator)
            places = range(rank, source.count, world)
            found.append(Planned(chosen[list(places)], [sample_seed(seed, place) for place in places]))
        return found

    def step(self, number: int, batch: Batch) -> Tensor:
        """One step of the optimiser on this process's share of a batch; the loss, still on the device."""
        config = self.config
        rate = rate_at(self.history.epoch * self.steps + number, self.steps * config.epochs, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        labels, targets = batch.labels.tensor_split([2], 1)
        taught = targets if targets.shape[1] else None
        if taught is None and self.teachers is not None:
            with self.fabric.autocast():
                taught = self.teachers.probabilities(batch.images)
        logits = self.net(net_input(batch.images, config.spec))
        loss = batch_loss(
            config.loss,
            logits,
            labels,
            batch.vessel_known,
            k=config.smoothing,
            vessel_weight=config.vessel_weight,
            taught=taught,
            soft=config.soft,
        )
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.inner)
        return loss.detach()

    def read_losses(self, losses: Sequence[Tensor]) -> None:
        """Read the losses of some steps into the history. Raises StreamsegError if one is not finite."""
        shared = self.fabric.all_reduce(torch.stack(list(losses)), reduce_op="mean")
        values = torch.as_tensor(shared).tolist()
        for step, value in enumerate(values, len(self.history.losses) + 1):
            if not np.isfinite(value):
                raise StreamsegError(
                    f"the loss became {value} in step {step} (epoch {self.history.epoch + 1}) of "
                    f"{self.folder.path}; what was saved before remains; train with a lower learning rate "
                    f"than {self.config.learning_rate:g}"
                )
        self.history.losses.extend(values)
        if self.log is not None:
            self.log.losses(len(self.history.losses), values, self.optimiser.param_groups[0]["lr"])

    def close_epoch(self, callbacks: TrainingCallbacks) -> None:
        """Validate and add the epoch's line to the history."""
        history = self.history
        if history.epoch + 1 == self.config.epochs:
            self.finish_average()
        dice = validation_dice(
            self.result, self.data.cache, self.data.fold.validation, self.config, self.fabric
        )
        history.epoch += 1
        line: dict[str, Any] = {
            "epoch": history.epoch,
            "step": history.epoch * self.steps,
            "loss": round(float(np.mean(history.losses[-self.steps :])), 6),
            "dice": None if dice is None else round(dice, 6),
            "seconds": round(history.seconds, 3),
            "images_per_second": round(self.steps * self.config.batch / max(history.seconds, 1e-9), 2),
        }
        history.step, history.seconds = 0, 0.0
        history.epochs.append(line)
        if self.log is not None:
            self.log.epoch(line["step"], **{k: line[k] for k in ("loss", "dice", "images_per_second")})
        callbacks.on_epoch(line)

    def finish_average(self) -> None:
        """Measure the averaged net's BatchNorm statistics, before its last validation."""
        if self.average is None or self.config.frozen_statistics:
            return
        batches = statistics_batches(self.config, self.data, self.fabric.device)
        with self.fabric.autocast():
            recompute_statistics(self.average.module, batches)

    def set_mode(self) -> None:
        """Training mode; BatchNorm stays in eval mode if its statistics are frozen."""
        self.net.train()
        if self.config.frozen_statistics:
            for module in self.inner.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()

    def save_if_due(self) -> None:
        """Save if enough time has passed. Called only when all losses have been read and checked."""
        if time.monotonic() - self.saved >= max(SAVE_SECONDS, self.save_seconds / SAVE_SHARE):
            self.save()

    def save(self, *, finished: bool = False) -> None:
        """Write the run's folder; weights that are not finite are refused before anything is replaced."""
        start = time.monotonic()
        if self.fabric.is_global_zero:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            if self.ours:
                write_weights(self.folder.path / WEIGHTS, self.result, self.config)
            state = {
                "net": self.inner.state_dict(),
                "average": self.average.state_dict() if self.average else {},
                "optimiser": self.optimiser.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "random": torch.get_rng_state(),
            }
            self.folder.save(state, self.history, finished=finished)
        self.saved = time.monotonic()
        self.save_seconds = self.saved - start

    def restore(self, state: dict[str, Any], history: History) -> None:
        """Restore a saved state."""
        self.inner.load_state_dict(state["net"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["random"])
        self.history = history


def statistics_batches(
    config: TrainConfig, data: TrainingData, device: torch.device | str
) -> Iterator[Tensor]:
    """Training images, changed as in the last epoch and with its shares of other images, as the net's input.

    At most STATISTICS_IMAGES of the labelled ones, evenly chosen; the same in every process and every time.
    """
    sources = sources_of(config, data)
    rows = data.fold.train
    chosen = torch.tensor(rows)[:: max(1, -(-len(rows) // STATISTICS_IMAGES))]
    split = torch.split(chosen, config.batch)
    plans = []
    for source in sources:
        if source is sources[0]:
            places, parts = [part.tolist() for part in split], list(split)
        else:
            places = [list(range(n * source.count, (n + 1) * source.count)) for n in range(len(split))]
            parts = [torch.tensor(part) % len(source.cache) for part in places]
        plans.append(
            [
                Planned(part, [sample_seed(config.seed, "statistics", source.name, place) for place in taken])
                for part, taken in zip(parts, places, strict=True)
            ]
        )
    references = references_of(sources, rows)
    changes = config.changes_at(config.epochs - 1)
    with ExitStack() as stack:
        loaded = [
            stack.enter_context(
                closing(augmented_batches(source, plan, config.restyle, references, device, changes=changes))
            )
            for source, plan in zip(sources, plans, strict=True)
        ]
        for batches in zip(*loaded, strict=True):
            yield net_input(reduce(Batch.joined, batches).images, config.spec)


def references_of(sources: Sequence[Source], train: Sequence[int]) -> CachedImages:
    """The images that restyled ones may resemble: all that train."""
    labelled, *others = sources
    return CachedImages(
        [(labelled.cache, train), *((source.cache, range(len(source.cache))) for source in others)]
    )


def augmented_batches(
    source: Source,
    plan: Sequence[Planned],
    share: float,
    references: Sequence[Grey],
    device: torch.device | str,
    *,
    changes: float,
) -> Generator[Batch]:
    """The images of a plan, a share of them restyled, all augmented, on a device.

    ``changes`` is the factor of both (:meth:`TrainConfig.changes_at`).
    """

    def change(number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return restyle_batch(images, labels, plan[number].seeds, changes * share, references)

    loaded = load_batches(source.cache, [step.rows for step in plan], device, change)
    for step, batch in zip(plan, loaded, strict=True):
        soft = batch.labels.shape[1] - 2
        batch.labels[:, 2:] /= 255
        strength = changes * source.strength
        images, labels = augment(batch.images, batch.labels, step.seeds, strength=strength, soft=soft)
        yield replace(batch, images=images, labels=labels)
