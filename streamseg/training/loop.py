"""Trains one net on one machine: read it top to bottom.

A run folder holds ``log.jsonl`` (one line an epoch), ``last.pt`` (all that a resumed run needs) and
``weights.safetensors`` (running average of the weights). No epoch is chosen by its validation Dice: what is
reported on the validation block was not selected on it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from streamseg.checkpoint import write_checkpoint
from streamseg.errors import StreamsegError, UsageError
from streamseg.nets import build_net
from streamseg.training.augment import augment
from streamseg.training.data import Cache
from streamseg.training.loss import segmentation_loss
from streamseg.types import InputSpec


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run's result, together with the data."""

    net: str = "improved_unet"
    height: int = 192
    width: int = 224
    epochs: int = 60
    batch: int = 8
    """Labelled images a step."""
    phantom_batch: int = 0
    """Phantom images added to each step."""
    learning_rate: float = 1e-3
    """Largest rate of the one-cycle schedule."""
    weight_decay: float = 1e-4
    average: float = 0.99
    """Decay of the running average of the weights, per step."""
    vessel_weight: float = 0.5
    """Weight of the loss of the vessel plane, learnt beside the nerve and dropped after training."""
    strength: float = 1.0
    """Strength of the augmentation."""
    seed: int = 0

    @property
    def spec(self) -> InputSpec:
        return InputSpec(self.height, self.width, mean=0.25, std=0.25, threshold=0.5)


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of step 0..steps-1: up from peak/25 in the first tenth, then a half cosine to 0."""
    rise = max(1, steps // 10)
    if step < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * step / rise)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


class Trainer:
    """State of a run: net, optimiser, averaged net, random state, and the next epoch's number."""

    def __init__(
        self, config: TrainConfig, train: Cache, validation: Cache, phantom: Cache | None, out: Path
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.train, self.validation, self.phantom, self.out = (
            config,
            train,
            validation,
            phantom,
            out,
        )
        net = build_net(config.net, outputs=2)
        self.net: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ema = get_ema_multi_avg_fn(config.average)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.net, multi_avg_fn=ema, use_buffers=True)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.epoch = 0

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.config.batch)

    def run(self, on_epoch: Callable[[dict[str, Any]], None]) -> None:
        """Train until all epochs are done. Raises StreamsegError on a loss that is no number."""
        while self.epoch < self.config.epochs:
            started = time.monotonic_ns()
            loss = self.train_epoch()
            dice = validation_dice(self.average, self.validation, self.config)
            self.epoch += 1
            line = {
                "epoch": self.epoch,
                "loss": round(loss, 5),
                "dice": round(dice, 5),
                "seconds": round((time.monotonic_ns() - started) / 1e9, 2),
            }
            self.save()
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            on_epoch(line)

    def train_epoch(self) -> float:
        """One pass over the training images; the mean loss."""
        self.net.train()
        order = torch.randperm(len(self.train), generator=self.generator)
        total = 0.0
        for number, indices in enumerate(torch.split(order, self.config.batch)):
            step = self.epoch * self.steps_per_epoch + number
            rate = one_cycle(step, self.config.epochs * self.steps_per_epoch, self.config.learning_rate)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss = self.loss(*self.batch(indices))
            if not torch.isfinite(loss):
                raise StreamsegError(
                    f"the loss became {loss.item()} in epoch {self.epoch + 1} of {self.out}; "
                    f"train with a lower learning rate than {self.config.learning_rate}"
                )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.average.update_parameters(self.net)
            total += loss.item()
        return total / self.steps_per_epoch

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Augmented, normalised images, labels and vessel_known of training images, phantoms added."""
        images, labels, known = self.train.take(indices)
        if self.phantom is not None and self.config.phantom_batch:
            extra = self.phantom.take(
                torch.randint(len(self.phantom), (self.config.phantom_batch,), generator=self.generator)
            )
            images, labels, known = (
                torch.cat(pair) for pair in zip((images, labels, known), extra, strict=True)
            )
        images, labels = augment(images, labels, self.generator, strength=self.config.strength)
        return net_input(images, self.config.spec), labels, known

    def loss(self, images: Tensor, labels: Tensor, vessel_known: Tensor) -> Tensor:
        logits = self.net(images)
        loss = segmentation_loss(logits[:, 0], labels[:, 0])
        if self.config.vessel_weight and bool(vessel_known.any()):
            vessel = segmentation_loss(logits[vessel_known, 1], labels[vessel_known, 1])
            loss = loss + self.config.vessel_weight * vessel
        return loss

    def write_weights(self, path: Path) -> None:
        """The averaged net as a checkpoint, without the vessel plane."""
        weights = {name: tensor.numpy().copy() for name, tensor in nerve_only(self.average.module).items()}
        write_checkpoint(
            path, net=self.config.net, folded=False, trained=True, spec=self.config.spec, weights=weights
        )

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take another run's averaged weights (the nerve plane's; the vessel plane starts afresh)."""
        own = self.net.state_dict()
        for name, tensor in weights.items():
            own[name][: len(tensor)] = tensor
        self.average.module.load_state_dict(own)

    def save(self) -> None:
        """Write ``weights.safetensors`` and then ``last.pt``, each atomically."""
        self.write_weights(self.out / "weights.safetensors")
        state = {
            "config": asdict(self.config),
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
        }
        temporary = self.out / "last.pt.tmp"
        torch.save(state, temporary)
        temporary.replace(self.out / "last.pt")

    def load(self) -> None:
        """Continue from ``last.pt``. Raises UsageError where the run was made with another config."""
        state = torch.load(self.out / "last.pt", weights_only=True)
        if state["config"] != asdict(self.config):
            changed = [k for k, v in asdict(self.config).items() if state["config"].get(k) != v]
            raise UsageError(
                f"run {self.out} was made with another {', '.join(changed)}; use the same or a new --out"
            )
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.epoch = state["epoch"]


def net_input(images: Tensor, spec: InputSpec) -> Tensor:
    """Images (N, 1, H, W) in 0..1 in the net's units, in the memory order that trains fastest."""
    return ((images - spec.mean) / spec.std).contiguous(memory_format=torch.channels_last)


def nerve_only(net: nn.Module) -> dict[str, Tensor]:
    """State of a net with two output planes, cut down to the first one."""
    state = {
        k: v.detach().contiguous()
        for k, v in net.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    return state | {"head.weight": state["head.weight"][:1], "head.bias": state["head.bias"][:1]}


@torch.inference_mode()
def validation_dice(net: nn.Module, data: Cache, config: TrainConfig) -> float:
    """Mean Dice of the nerve plane at the net's own resolution; both empty counts 1."""
    net.eval()
    spec = config.spec
    total = 0.0
    for indices in torch.split(torch.arange(len(data)), config.batch):
        images, labels, _ = data.take(indices)
        found = torch.sigmoid(net(net_input(images, spec))[:, 0]) >= spec.threshold
        truth = labels[:, 0] > 0
        overlap = (found & truth).sum((1, 2))
        size = found.sum((1, 2)) + truth.sum((1, 2))
        total += float(torch.where(size > 0, 2 * overlap / size.clamp(min=1), 1.0).sum())
    return total / len(data)
