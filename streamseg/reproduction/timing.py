"""The time of a training step of each net, measured in turn, so that other work slows all nets alike.

The times of whole runs, one after the other for hours, cannot be compared as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from streamseg.core.errors import DataError
from streamseg.core.files import read_json, write_json
from streamseg.core.numbers import finite_number
from streamseg.nets import build_net
from streamseg.training.devices import flushed_denormals
from streamseg.training.loss import batch_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from streamseg.training.config import TrainConfig

TIMING = "timing.json"
"""The measured times, in the report's folder."""
WARM_UP = 2
"""Rounds that are not counted."""

Timing = dict[str, list[float]]
"""Seconds of a step of each net, one value a round."""


def measure_steps(
    nets: Sequence[str],
    config: TrainConfig,
    fabric: Fabric,
    rounds: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Timing | None:
    """Time steps on a batch of noise: each net once a round. None if asked to stop."""
    steps = {net: _step_of(net, config, fabric) for net in nets}
    found: Timing = {net: [] for net in nets}
    with flushed_denormals():
        for number in range(WARM_UP + rounds):
            for net, step in steps.items():
                if should_stop():
                    return None
                _wait(fabric.device)
                start = time.perf_counter()
                step()
                _wait(fabric.device)
                if number >= WARM_UP:
                    found[net].append(round(time.perf_counter() - start, 6))
    return found


def _step_of(name: str, config: TrainConfig, fabric: Fabric) -> Callable[[], None]:
    torch.manual_seed(config.seed)
    inner = build_net(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net, optimiser = fabric.setup(inner, torch.optim.AdamW(inner.parameters(), lr=config.learning_rate))
    shape = (config.batch, 1, config.height, config.width)
    images = torch.randn(shape, device=fabric.device).contiguous(memory_format=torch.channels_last)
    labels = (images > 1.5).float().expand(-1, 2, -1, -1)
    known = torch.zeros(config.batch, dtype=torch.bool, device=fabric.device)

    def step() -> None:
        loss = batch_loss(config.loss, net(images), labels, known, k=config.smoothing)
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimiser.step()

    return step


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_timing(out: Path, timing: Timing) -> None:
    """Raises SinkError."""
    write_json(out / TIMING, dict(timing))


def read_timing(out: Path, nets: Sequence[str]) -> Timing | None:
    """The measured times of these nets; None if they were not measured. Raises DataError."""
    found = read_json(out / TIMING)
    if found is None:
        return None
    lists = [found.get(net) for net in nets]
    if (
        not all(
            isinstance(values, list)
            and values
            and all(finite_number(value, 1e-9, 1e6) is not None for value in values)
            for values in lists
        )
        or len({len(values or ()) for values in lists}) != 1
    ):
        raise DataError(f"{out / TIMING} is damaged; remove it and run again")
    return {net: found[net] for net in nets}
