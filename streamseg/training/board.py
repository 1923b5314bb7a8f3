"""A run's figures for TensorBoard, beside its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class Board:
    """Writes below ``tensorboard/`` of a run; what a broken run wrote past its last save is hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def losses(self, last_step: int, values: Sequence[float], rate: float) -> None:
        """Training losses of consecutive steps, of which ``last_step`` (counted from 1) is the last."""
        first = last_step - len(values) + 1
        for step, value in enumerate(values, first):
            self._writer.add_scalar("loss/step", value, step)
        self._writer.add_scalar("rate", rate, last_step)

    def epoch(self, step: int, *, loss: float, dice: float, images_per_second: float) -> None:
        """An epoch's mean loss, validation Dice and speed."""
        named = {"loss/epoch": loss, "dice/validation": dice, "speed/images_per_second": images_per_second}
        for name, value in named.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
