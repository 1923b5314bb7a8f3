"""A training run as others see it: its folder, its callbacks and its outcome.

The folder is written so that a run killed at any moment can be resumed::

    run.json             configuration, data, steps done and whether the run is finished
    split.json           the images that it trains on and those that it holds back, by hash
    log.jsonl            one line an epoch
    losses.json          the training loss of every step
    weights.safetensors  the weights to use (their running average if the recipe averages)
    last.pt              all that a resumed run needs; written before the files above mention it
    tensorboard/         the same figures for TensorBoard
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from streamseg.core.errors import DataError, SinkError, UsageError, one_line
from streamseg.core.files import parse_json, read_file, read_json
from streamseg.core.numbers import finite_number, whole_number
from streamseg.core.types import Say
from streamseg.training.config import TrainConfig
from streamseg.training.data import TrainingData

RUN, LOG, LOSSES, STATE, WEIGHTS = "run.json", "log.jsonl", "losses.json", "last.pt", "weights.safetensors"


@dataclass
class History:
    """The progress of a run."""

    epoch: int = 0
    """Complete epochs."""
    step: int = 0
    """Steps done of the incomplete epoch."""
    seconds: float = 0.0
    """Time spent in those steps."""
    losses: list[float] = field(default_factory=list)
    """Training loss of every step."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One line of the log for each complete epoch."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """What a run calls on its way."""

    on_step: Callable[[int, int, float], None] = lambda done, steps, loss: None
    """Called every few steps with the steps done, all steps, and the latest loss."""
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None
    """Called with each line of the log."""
    on_start: Callable[[int, int], None] = lambda done, steps: None
    """Called before the first step with the steps done before an interruption, and all steps."""
    on_data: Callable[[TrainingData], None] = lambda data: None
    """Called when the data is read, before the net is built."""
    say: Say = lambda line: None
    """Receives messages about the data."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked before each step; the run then saves itself and ends. For runs of one process."""


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a run, finished or stopped."""

    history: History
    finished: bool
    """False if it was asked to stop before its end."""
    net: nn.Module
    """The weights to use, in eval mode."""


class RunFolder:
    """Reads and writes one run's folder. Several processes may read it; only the first one writes."""

    def __init__(self, path: Path, config: TrainConfig, data: str) -> None:
        self.path, self.config, self.data = path, config, data

    def check(self) -> bool:
        """Whether the run in the folder is finished. False for a folder without a run.

        Raises UsageError for a run of another configuration or data, DataError for a damaged one.
        """
        if not (self.path / RUN).exists():
            return False
        found = self._json(RUN)
        stored, own = stored_settings(self.path, found), asdict(self.config)
        changed = [f"{k} {stored.get(k)!r} (now {v!r})" for k, v in own.items() if stored.get(k) != v]
        if found.get("data") != self.data:
            changed.append("data")
        if changed:
            raise UsageError(
                f"run {self.path} was made with another {', '.join(changed)}; use the same or another folder"
            )
        return bool(found.get("finished"))

    def load(self) -> tuple[dict[str, Any], History] | None:
        """The state to resume from, or None if no run was saved yet. Raises DataError for a damaged one."""
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            if not path.is_file():  # reading a pipe could block for ever
                raise ValueError("it is not a file")
            state = torch.load(path, weights_only=True, map_location="cpu")
            return state, _history(state["history"])
        except Exception as error:  # torch raises nearly anything on a damaged file
            raise DataError(
                f"cannot read the saved run {path} ({type(error).__name__}); "
                "delete the folder and train again"
            ) from error

    def save(self, state: Mapping[str, Any], history: History, *, finished: bool) -> None:
        """Write everything but the weights, each file atomically. Raises SinkError (disk full, ...)."""
        with self._writing(STATE) as path:
            torch.save({**state, "history": asdict(history)}, path)
        self._write(LOG, "".join(json.dumps(line) + "\n" for line in history.epochs))
        self._write(LOSSES, json.dumps(history.losses) + "\n")
        self.announce(finished=finished, history=history)

    def announce(self, *, finished: bool, history: History) -> None:
        """Write ``run.json``."""
        run = {
            "config": asdict(self.config),
            "data": self.data,
            "epoch": history.epoch,
            "finished": finished,
        }
        self._write(RUN, json.dumps(run, indent=1) + "\n")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = parse_json(read_file(self.path / name))
            if not isinstance(found, dict):
                raise ValueError("it holds no JSON object")
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot read {self.path / name} ({error}); delete the folder and train again"
            ) from error
        return found

    def _write(self, name: str, text: str) -> None:
        with self._writing(name) as path:
            path.write_text(text, encoding="utf-8")

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """A temporary path; its file gets the name if the block succeeds."""
        temporary = self.path / f"{name}.tmp"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(self.path / name)
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
            raise SinkError(
                f"cannot write {self.path / name}: {one_line(error, 200)}; what was saved before remains, "
                "free space and resume"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def stored_settings(path: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in a ``run.json``, by field; a setting that an earlier version did not have has its
    default, which changes nothing. Raises DataError."""
    stored = run.get("config", {})
    if not isinstance(stored, dict):
        raise DataError(f"{path / RUN} is damaged; delete the folder and train again")
    defaults = asdict(TrainConfig())
    return defaults | {name: value for name, value in stored.items() if name in defaults}


def stored_config(path: Path) -> TrainConfig | None:
    """The configuration of the run in a folder; None if there is none. Raises DataError for a damaged one."""
    run = read_json(path / RUN)
    if run is None:
        return None
    try:
        return TrainConfig(**stored_settings(path, run))
    except (TypeError, UsageError) as error:
        raise DataError(f"{path / RUN} is damaged ({error}); delete the folder and train again") from error


def training_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, one an epoch; none if there is no log. Raises DataError for a damaged one."""
    try:
        lines = read_file(run / LOG).decode().splitlines()
        found = [parse_json(line.encode()) for line in lines]
        if not all({"step", "seconds"} <= line.keys() for line in found):
            raise ValueError("a line lacks step or seconds")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"cannot read {run / LOG} ({one_line(error)})") from error
    return found


def trained_on_restyled(run: Path) -> bool:
    """Whether the run in a folder trained on restyled images, too; False without a run. Raises DataError."""
    config = stored_config(run)
    return config is not None and config.restyle > 0


def _history(values: Mapping[str, Any]) -> History:
    """The history of a saved state. Raises ValueError and TypeError for a damaged one."""
    history = History(**values)
    numbers = [history.seconds, *history.losses]
    whole = (history.epoch, history.step)
    if None in [finite_number(value) for value in numbers] or None in [
        whole_number(value, 0, 10**12) for value in whole
    ]:
        raise ValueError("its history is damaged")
    if not all(isinstance(line, dict) for line in history.epochs):
        raise ValueError("its log is damaged")
    return history


class TensorBoardLog:
    """Writes a run's figures below its ``tensorboard/``; a resumed run hides those after its last save."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes half a second

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def losses(self, last_step: int, values: Sequence[float], rate: float) -> None:
        """Training losses of consecutive steps, of which ``last_step`` (counted from 1) is the last."""
        first = last_step - len(values) + 1
        for step, value in enumerate(values, first):
            self._writer.add_scalar("loss/step", value, step)
        self._writer.add_scalar("rate", rate, last_step)

    def epoch(self, step: int, *, loss: float, dice: float | None, images_per_second: float) -> None:
        """An epoch's mean loss, validation Dice (None if nothing is held back) and speed."""
        named = {"loss/epoch": loss, "dice/validation": dice, "speed/images_per_second": images_per_second}
        for name, value in named.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
