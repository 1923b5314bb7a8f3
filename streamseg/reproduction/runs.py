"""Does the trials of a replication, then its runs: each trains a net on a fold, and measures it on the fold's
held-back images.

``result.json`` beside the training run's own files holds all figures that a report needs; if it exists, the
run is finished. ``example.png`` is the net's mask of the fold's example image (0 or 255).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from streamseg import __version__
from streamseg.backends import load_backend
from streamseg.core.errors import DataError
from streamseg.core.files import parse_json, read_file, write_json, write_whole
from streamseg.core.hardware import this_processor, usable_cores
from streamseg.core.types import Frame, Grey, Mask
from streamseg.datasets import Dataset, Sample
from streamseg.datasets.split import Fold
from streamseg.engines.checkpoint import Checkpoint
from streamseg.evaluation.overlap import Confusion
from streamseg.nets import build_net, count_parameters
from streamseg.reproduction.data import ReplicationData
from streamseg.reproduction.plan import (
    BEST,
    FORMAT,
    Chosen,
    ReplicationPlan,
    Trial,
    run_folder,
    title,
    trial_folder,
)
from streamseg.reproduction.results import RESULT
from streamseg.reproduction.timing import TIMING, measure_steps, write_timing
from streamseg.reproduction.trials import choose, missing_trials, read_trials, trial_fold
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.config import Precision, TrainConfig
from streamseg.training.data import TrainingData
from streamseg.training.initial_weights import initial_weights
from streamseg.training.run_folder import LOG, LOSSES, STATE, WEIGHTS, TrainingCallbacks
from streamseg.training.trainer import fit

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EPOCH_KEYS = ("epoch", "step", "loss", "dice", "seconds", "images_per_second")


@dataclass(frozen=True, slots=True)
class ReplicationCallbacks:
    """What a replication calls on its way. ``what`` names a run: ``run 3 of 12: SegNet, fold 1 of 4``."""

    on_step: Callable[[str, int, int, float], None] = lambda what, done, steps, loss: None
    """Called every few steps with the run's steps done, all its steps, and the loss."""
    on_epoch: Callable[[str, int, dict[str, Any]], None] = lambda what, epochs, line: None
    """Called with the run's maximum number of epochs and each line of its log."""
    on_run: Callable[[], object] = lambda: None
    """Called after each run."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked before each step and each image measured."""


def is_finished(out: Path, name: str, fold: int) -> bool:
    return (run_folder(out, name, fold) / RESULT).exists()


@dataclass(frozen=True, slots=True)
class Replication:
    """A plan with its data and output folder."""

    plan: ReplicationPlan
    data: ReplicationData
    out: Path
    fabric_of: Callable[[Precision], Fabric]
    """A launched Fabric on the plan's device."""
    callbacks: ReplicationCallbacks

    def run_all(self) -> bool:
        """Do every unfinished trial and run; False if asked to stop before the end.

        May be killed at any moment: called again, it resumes where training last saved its state.
        Raises StreamsegError.
        """
        for net in self.plan.beside:  # weights of ImageNet that are missing are noticed now, not after hours
            initial_weights(None, self.plan.config_for(net + BEST, 0))
        found = read_trials(self.out, self.plan)
        while (trial := next(missing_trials(self.plan, found), None)) is not None:
            if not self.run_trial(trial, len(found) + 1):
                return False
            found = read_trials(self.out, self.plan)
        chosen = choose(self.plan, found)
        runs = list(self.plan.runs())
        for number, (name, fold) in enumerate(runs, 1):
            if not is_finished(self.out, name, fold):
                what = f"run {number} of {len(runs)}: {title(name)}, fold {fold + 1} of {self.plan.folds}"
                if not self.run(name, fold, chosen, what):
                    return False
                self.callbacks.on_run()
        if self.plan.rounds and not (self.out / TIMING).exists():
            precision = (chosen or self.plan.default).precision
            timing = measure_steps(
                self.plan.nets,
                self.plan.config,
                self.fabric_of(precision),
                self.plan.rounds,
                self.callbacks.should_stop,
            )
            if timing is None:
                return False
            write_timing(self.out, timing)
            self.callbacks.on_run()
        return True

    def run_trial(self, trial: Trial, number: int) -> bool:
        """Do one trial and write its ``result.json``; False if stopped before."""
        folder, config = trial_folder(self.out, trial), self.plan.config_of(trial)
        fold = trial_fold(self.data.folds)
        what = f"trial {number}: {title(trial.net)}, rate {trial.rate:g}, {trial.precision}"
        if not self._train(config, fold, folder, what):
            return False
        about = {
            "format": FORMAT,
            "net": trial.net,
            "rate": trial.rate,
            "precision": trial.precision,
            "train_images": len(fold.train),
            "validation_images": len(fold.validation),
            "epochs": _training(folder)["epochs"],
        }
        write_json(folder / RESULT, {**about, **_now(self.plan.device)})
        for name in (STATE, WEIGHTS):  # no longer needed
            (folder / name).unlink(missing_ok=True)
        return True

    def run(self, name: str, fold: int, chosen: Chosen | None, what: str) -> bool:
        """Train one net on one fold, measure it, and write ``result.json``; False if stopped before."""
        folder, parts = run_folder(self.out, name, fold), self.data.folds[fold]
        config = self.plan.config_for(name, fold, chosen)
        if not self._train(config, parts, folder, what):
            return False
        held_back = self.data.samples.part(parts.validation)
        example = example_row(self.data, fold)
        write_example(self.out, fold, held_back[example])
        images = measure(folder, held_back, example, self.callbacks.should_stop)
        if len(images) < len(held_back):
            return False
        about = {
            "format": FORMAT,
            "net": name,
            "fold": fold,
            "parameters": count_parameters(build_net(config.net, outputs=config.outputs)),
            "train_images": len(parts.train),
            "validation_images": len(parts.validation),
            "example": held_back.entries[example].name,
            "rate": config.learning_rate,
            "precision": config.precision,
        }
        write_json(
            folder / RESULT, {**about, **_now(self.plan.device), **_training(folder), "images": images}
        )
        (folder / STATE).unlink(missing_ok=True)  # 100 to 400 MB that are no longer needed
        return True

    def _train(self, config: TrainConfig, fold: Fold, folder: Path, what: str) -> bool:
        callbacks = TrainingCallbacks(
            on_step=partial(self.callbacks.on_step, what),
            on_epoch=partial(self.callbacks.on_epoch, what, config.epochs),
            should_stop=self.callbacks.should_stop,
        )
        start = initial_weights(None, config)
        assert not isinstance(start, Checkpoint)  # no recipe begins with folded weights
        return fit(
            config,
            TrainingData(self.data.cache, fold),
            folder,
            start=start,
            fabric=self.fabric_of(config.precision),
            callbacks=callbacks,
        ).finished


def _now(device: str) -> dict[str, Any]:
    return {
        "machine": machine(device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def example_row(data: ReplicationData, fold: int) -> int:
    """The row of a fold's example image: of the held-back ones that with the median nerve area.

    The choice depends on the labels only, not on any net's result.
    """
    rows = list(data.folds[fold].validation)
    areas = data.cache.labels[rows, 0].sum((1, 2), dtype=torch.int64)
    with_nerve = sorted((int(area), row) for row, area in enumerate(areas) if area > 0)
    return with_nerve[len(with_nerve) // 2][1] if with_nerve else 0


def write_example(out: Path, fold: int, sample: Sample) -> None:
    """Write a fold's example image and mask to the report's folder, for its Figure 6."""
    for name, pixels in (("image", sample.image), ("mask", _mask_image(sample.nerve))):
        _write_png(out / "examples" / f"{fold + 1}-{name}.png", pixels)


def measure(
    folder: Path, held_back: Dataset, example: int, should_stop: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Figures of each held-back image in its own pixels; writes the mask of the example image.

    Fewer than all if asked to stop. Raises EngineError for weights that do not load, DataError.
    """
    backend = load_backend(folder / WEIGHTS)
    figures: list[dict[str, Any]] = []
    try:
        segmenter = Segmenter(backend, None)
        for row, sample in enumerate(held_back):
            if should_stop():
                break
            found = segmenter.segment(Frame(sample.image, row, time.monotonic_ns())).mask
            figures.append(_figures(sample, Confusion.count(found, sample.nerve)))
            if row == example:
                _write_png(folder / "example.png", _mask_image(found))
    finally:
        backend.close()
    return figures


def _figures(sample: Sample, count: Confusion) -> dict[str, Any]:
    return {
        "name": sample.name,
        "subject": sample.subject,
        "dice": round(count.dice, 6),
        "iou": round(count.iou, 6),
        "nerve": count.present,
        "found": count.found,
    }


def _training(folder: Path) -> dict[str, Any]:
    """The training log: one object an epoch, and the loss of every step."""
    try:
        lines = read_file(folder / LOG).decode().splitlines()
        epochs = [{key: line[key] for key in EPOCH_KEYS} for line in map(parse_json, lines)]
        losses = [round(float(loss), 6) for loss in parse_json(read_file(folder / LOSSES))]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"the log of {folder} is damaged ({error!r}); remove that folder and run again"
        ) from error
    return {"epochs": epochs, "losses": losses}


def machine(device: str) -> dict[str, Any]:
    """The hardware and versions of a run, without the machine's name."""
    name = torch.cuda.get_device_name() if device == "cuda" else this_processor().processor
    return {
        "device": device,
        "name": name,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "streamseg": __version__,
    }


def _mask_image(mask: Mask) -> Grey:
    return np.where(mask, 255, 0).astype(np.uint8)


def _write_png(path: Path, image: Grey) -> None:
    write_whole(path, cv2.imencode(".png", image)[1].tobytes())
