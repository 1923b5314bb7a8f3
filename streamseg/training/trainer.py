"""Trains one net; read :meth:`Run.train` top to bottom.

Nothing random is carried along: the order of the images, and what augmentation does to each, follow from the
seed, the epoch and the image. So a run that was killed ends with the same weights as an unbroken one, and
several processes with the weights of one. No epoch is chosen by its validation Dice: what is reported on the
validation part was not selected on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from streamseg.core.errors import StreamsegError, UsageError
from streamseg.datasets.split import Fold
from streamseg.nets import build_net
from streamseg.training.augment import augment, sample_seed
from streamseg.training.config import TrainConfig, rate_at
from streamseg.training.data import Batch, Cache, load_batches
from streamseg.training.devices import flushed_denormals, make_fabric
from streamseg.training.loss import batch_loss
from streamseg.training.run_folder import (
    WEIGHTS,
    History,
    RunFolder,
    TensorBoardLog,
    TrainingCallbacks,
    TrainingOutcome,
)
from streamseg.training.validate import net_input, validation_dice
from streamseg.training.weights import running_average, take_weights, write_weights

SAVE_SECONDS = 60.0
"""A run is saved when so much time has passed since the last time, and at its end."""
WELL_AVERAGED = 10_000
"""Steps that given weights count for in the running average: they are not forgotten as random ones are."""
LOOK_STEPS = 10  # between two looks at the loss: it is read from the device, checked and shown


def fit(
    config: TrainConfig,
    cache: Cache,
    fold: Fold,
    out: Path,
    *,
    phantom: Cache | None = None,
    net: nn.Module | None = None,
    start: Mapping[str, npt.NDArray[Any]] | None = None,
    fabric: Fabric | None = None,
    watch: TrainingCallbacks | None = None,
) -> TrainingOutcome:
    """Train on ``fold.train`` of the cache, or go on with the run in ``out``, or return if it is done.

    ``phantom`` holds phantom images, of which ``config.phantom_batch`` are added to each step. ``net`` is a
    net of another kind, with ``config.outputs`` planes; no ``weights.safetensors`` is written for it.
    ``start`` are weights to begin with. Raises UsageError where ``out`` holds a run of another configuration
    or data, StreamsegError on a loss that is no number (what was saved before is kept), SinkError.
    """
    parts = f"{cache.fingerprint}/{fold.train}/{fold.validation}/{phantom.fingerprint if phantom else ''}"
    folder = RunFolder(out, config, f"{sample_seed(parts):016x}")
    finished = folder.check()
    run = Run(config, cache, fold, folder, phantom, net, fabric or make_fabric("cpu", config.precision))
    if (saved := folder.load()) is not None:
        run.restore(*saved)
    elif start is not None:
        take_weights(run.inner, start)
        if run.average is not None:
            run.average.module.load_state_dict(run.inner.state_dict())
            run.average.n_averaged.fill_(WELL_AVERAGED)
    if not finished:
        finished = run.train(watch or TrainingCallbacks())
    return TrainingOutcome(run.history, finished, run.kept.eval())


class Run:
    """State of a run: net, optimiser, averaged net and history."""

    def __init__(  # noqa: PLR0917 - called in one place
        self,
        config: TrainConfig,
        cache: Cache,
        fold: Fold,
        folder: RunFolder,
        phantom: Cache | None,
        net: nn.Module | None,
        fabric: Fabric,
    ) -> None:
        """Raises UsageError where the processes cannot share a batch equally."""
        torch.manual_seed(config.seed)
        self.config, self.cache, self.fold, self.folder, self.fabric = config, cache, fold, folder, fabric
        self.phantom = phantom if config.phantom_batch else None
        self.ours = net is None
        world = fabric.world_size
        if config.batch % world or config.phantom_batch % world:
            raise UsageError(
                f"{world} processes cannot share batches of {config.batch} + {config.phantom_batch} images; "
                "give multiples of the processes' number"
            )
        self.steps = max(1, len(fold.train) // config.batch)
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
        self.board: TensorBoardLog | None = None
        self.saved = time.monotonic()

    @property
    def kept(self) -> nn.Module:
        """The net whose weights count: the running average where there is one."""
        return self.inner if self.average is None else self.average.module

    def train(self, watch: TrainingCallbacks) -> bool:
        """Train until all epochs are done (True) or ``watch`` asks to stop (False)."""
        if self.fabric.is_global_zero:
            self.folder.announce(finished=False, history=self.history)
            self.board = TensorBoardLog(self.folder.path, len(self.history.losses))
        try:
            with flushed_denormals():
                return self._train(watch)
        finally:
            if self.board is not None:
                self.board.close()

    def _train(self, watch: TrainingCallbacks) -> bool:
        watch.on_start(len(self.history.losses), self.config.epochs * self.steps)
        while self.history.epoch < self.config.epochs:
            if not self.train_epoch(watch):
                self.save()
                return False
            self.close_epoch(watch)
            self.save_if_due()
        self.save(finished=True)
        self.fabric.barrier()
        return True

    def train_epoch(self, watch: TrainingCallbacks) -> bool:
        """The steps of the epoch that are left; False where the run was asked to stop before the last."""
        self.set_mode()
        history = self.history
        pending: list[Tensor] = []
        mark = time.monotonic()
        for batch in load_batches(self.cache, self.plan(), self.fabric.device):
            if watch.should_stop():
                break
            pending.append(self.step(history.step, batch))
            history.step += 1
            if len(pending) >= LOOK_STEPS or history.step == self.steps:
                self.read_losses(pending)
                pending.clear()
                history.seconds += time.monotonic() - mark
                done = history.epoch * self.steps + history.step
                watch.on_step(done, self.config.epochs * self.steps, history.losses[-1])
                if history.step < self.steps:
                    self.save_if_due()
                mark = time.monotonic()
        if pending:
            self.read_losses(pending)
            history.seconds += time.monotonic() - mark
        return history.step == self.steps

    def plan(self) -> list[Tensor]:
        """Rows of the remaining steps of this epoch, this process's share of each."""
        seed = sample_seed(self.config.seed, "order", self.history.epoch)
        order = torch.randperm(len(self.fold.train), generator=torch.Generator().manual_seed(seed))
        rows = torch.tensor(self.fold.train)[order]
        rank, world, size = self.fabric.global_rank, self.fabric.world_size, self.config.batch
        whole = [rows[n * size : (n + 1) * size] for n in range(self.steps)]
        return [part[rank::world] for part in whole[self.history.step :]]

    def step(self, number: int, batch: Batch) -> Tensor:
        """One step of the optimiser on this process's share of a batch; the loss, still on the device."""
        config, epoch = self.config, self.history.epoch
        seeds = [sample_seed(config.seed, "image", epoch, row) for row in batch.rows.tolist()]
        batch = _augmented(batch, seeds, config.strength)
        if self.phantom is not None:
            extra, extra_seeds = self.phantoms(number)
            batch = batch.joined(_augmented(extra, extra_seeds, config.phantom_strength))
        rate = rate_at(epoch * self.steps + number, self.steps * config.epochs, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        logits = self.net(net_input(batch.images, config.spec))
        loss = batch_loss(
            config.loss,
            logits,
            batch.labels,
            batch.vessel_known,
            k=config.smoothing,
            vessel_weight=config.vessel_weight,
        )
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.inner)
        return loss.detach()

    def phantoms(self, number: int) -> tuple[Batch, list[int]]:
        """This process's share of a step's phantoms, and their seeds."""
        assert self.phantom is not None
        seed = sample_seed(self.config.seed, "phantom", self.history.epoch, number)
        chosen = torch.randint(
            len(self.phantom), (self.config.phantom_batch,), generator=torch.Generator().manual_seed(seed)
        )
        places = range(self.fabric.global_rank, len(chosen), self.fabric.world_size)
        extra = self.phantom.take(chosen[list(places)]).to(self.fabric.device)
        return extra, [sample_seed(seed, place) for place in places]

    def read_losses(self, losses: Sequence[Tensor]) -> None:
        """Read the losses of some steps into the history. Raises StreamsegError where one is no number."""
        shared = self.fabric.all_reduce(torch.stack(list(losses)), reduce_op="mean")
        values = torch.as_tensor(shared).tolist()
        for step, value in enumerate(values, len(self.history.losses) + 1):
            if not np.isfinite(value):
                raise StreamsegError(
                    f"the loss became {value} in step {step} (epoch {self.history.epoch + 1}) of "
                    f"{self.folder.path}; what was saved before is kept; train with a lower learning rate "
                    f"than {self.config.learning_rate:g}"
                )
        self.history.losses.extend(values)
        if self.board is not None:
            self.board.losses(len(self.history.losses), values, self.optimiser.param_groups[0]["lr"])

    def close_epoch(self, watch: TrainingCallbacks) -> None:
        """Validate and add the epoch's line to the history."""
        history = self.history
        dice = validation_dice(self.kept, self.cache, self.fold.validation, self.config, self.fabric)
        history.epoch += 1
        line: dict[str, Any] = {
            "epoch": history.epoch,
            "step": history.epoch * self.steps,
            "loss": round(float(np.mean(history.losses[-self.steps :])), 6),
            "dice": round(dice, 6),
            "seconds": round(history.seconds, 3),
            "images_per_second": round(self.steps * self.config.batch / max(history.seconds, 1e-9), 2),
        }
        history.step, history.seconds = 0, 0.0
        history.epochs.append(line)
        if self.board is not None:
            self.board.epoch(line["step"], **{k: line[k] for k in ("loss", "dice", "images_per_second")})
        watch.on_epoch(line)

    def set_mode(self) -> None:
        """Training mode; BatchNorm stays in eval mode where its statistics are frozen."""
        self.net.train()
        if self.config.frozen_statistics:
            for module in self.inner.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()

    def save_if_due(self) -> None:
        """Save where enough time has passed. Called between looks only, when all losses are checked."""
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self.save()

    def save(self, *, finished: bool = False) -> None:
        """Write the run's folder; weights that are not finite are refused before anything is replaced."""
        if self.fabric.is_global_zero:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            if self.ours:
                write_weights(self.folder.path / WEIGHTS, self.kept, self.config)
            state = {
                "net": self.inner.state_dict(),
                "average": self.average.state_dict() if self.average else {},
                "optimiser": self.optimiser.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "random": torch.get_rng_state(),
            }
            self.folder.save(state, self.history, finished=finished)
        self.saved = time.monotonic()

    def restore(self, state: dict[str, Any], history: History) -> None:
        """Take a saved state."""
        self.inner.load_state_dict(state["net"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["random"])
        self.history = history


def _augmented(batch: Batch, seeds: Sequence[int], strength: float) -> Batch:
    images, labels = augment(batch.images, batch.labels, seeds, strength=strength)
    return replace(batch, images=images, labels=labels)
