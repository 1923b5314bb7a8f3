"""A report as it is stored, made by hand: plan, runs and example images, without any training."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg.reproduction.plan import PLAN_FILE, ReplicationPlan, Trial, run_folder, trial_folder
from streamseg.reproduction.results import RESULT
from streamseg.reproduction.trials import TrialResult
from streamseg.training.config import OPEN_CHOICES, TrainConfig, recipe

STEPS, EPOCHS, IMAGES = 5, 4, 12
"""Steps an epoch, epochs, and held-back images a fold."""
DICE = {"unet": 0.5, "segnet": 0.6, "improved_unet": 0.7}
STEP_SECONDS = {"unet": 0.5, "segnet": 5.0, "improved_unet": 1.0}
LOSS = {"unet": 0.4, "segnet": 0.3, "improved_unet": 0.2}
PARAMETERS = {"unet": 7_848_129, "segnet": 31_819_649, "improved_unet": 8_301_441}
MACHINE = {
    "device": "cpu",
    "name": "Some processor",
    "cores": 2,
    "threads": 2,
    "system": "Linux",
    "python": "3.11.7",
    "torch": "2.13.0",
    "streamseg": "0.1.0",
}
CONFIG = recipe("paper", height=32, width=64, epochs=EPOCHS, batch=2, learning_rate=3e-4)
FACTS: dict[str, Any] = {
    "name": "some data",
    "kind": "folder",
    "images": 4 * IMAGES,
    "with_nerve": 36,
    "subjects": None,
    "fingerprint": "0123456789abcdef" * 4,
    "split": "fedcba9876543210" * 4,
    "twins": [["3", "9"]],
    "contradictions": [["3", "9"]],
}


def plan_of(folds: int = 4, config: TrainConfig = CONFIG, **changes: Any) -> ReplicationPlan:
    return ReplicationPlan(config, folds, **changes)


def write_stored(
    out: Path,
    *,
    folds: int = 4,
    missing: Collection[tuple[str, int]] = (),
    dice: dict[str, float] = DICE,
    seconds: dict[str, float] = STEP_SECONDS,
    loss: dict[str, float] = LOSS,
    images_of_a_subject: int | None = None,
    plan: ReplicationPlan | None = None,
    ended: Mapping[str, int] = {},
) -> Path:
    """Write the stored part of a report; ``dice``, ``seconds`` (of a step) and final ``loss`` by net.

    ``images_of_a_subject`` None is a report of an earlier version, which did not store subjects. ``ended``
    are the epochs of nets that have fewer than all. What is trained beside the paper's nets has the improved
    U-Net's figures, and a Dice that is 0.1 higher.
    """
    plan = plan or plan_of(folds)
    stored = {"format": 1, "settings": plan.settings(), "data": FACTS, "open_choices": OPEN_CHOICES}
    out.mkdir(parents=True, exist_ok=True)
    (out / PLAN_FILE).write_text(json.dumps(stored))
    for name, fold in plan.runs():
        if (name, fold) not in missing:
            net, more = (name, 0.0) if name in plan.nets else ("improved_unet", 0.1)
            _write_run(
                *(out, name, fold, dice[net] + more, seconds[net], loss[net], images_of_a_subject),
                ended.get(name, EPOCHS),
            )
    return out


def write_trial(
    out: Path, trial: Trial, *, dice: float = 0.4, loss: float = 0.6, seconds: float = 1.0
) -> TrialResult:
    """Write a finished trial of four epochs; the first two had half its Dice."""
    epochs = [
        {"epoch": n, "step": 5 * n, "loss": loss, "dice": dice / (2 if n < 3 else 1), "seconds": 5 * seconds}
        for n in range(1, 5)
    ]
    result = TrialResult(
        *(1, trial.net, trial.rate, trial.precision, 10, 12, epochs, MACHINE, "2026-11-22T12:00:00+00:00")
    )
    folder = trial_folder(out, trial)
    folder.mkdir(parents=True)
    (folder / RESULT).write_text(json.dumps(asdict(result)))
    return result


def _write_run(
    out: Path, net: str, fold: int, dice: float, seconds: float, loss: float, together: int | None, ended: int
) -> None:
    losses = [loss + 0.01 * fold + 0.5 * 0.7**step for step in range(STEPS * ended - STEPS)] + [loss] * STEPS
    epochs = [
        {
            "epoch": epoch + 1,
            "step": (epoch + 1) * STEPS,
            "loss": sum(losses[epoch * STEPS : (epoch + 1) * STEPS]) / STEPS,
            "dice": dice,
            "seconds": STEPS * seconds * (3 if epoch == 0 else 1),  # the first one on a busy machine
            "images_per_second": 2 / seconds,
        }
        for epoch in range(ended)
    ]
    images = [_image(fold * IMAGES + number, dice) for number in range(IMAGES)]
    if together is not None:
        images = [image | {"subject": f"{fold}-{n // together}"} for n, image in enumerate(images)]
    value = {
        "format": 1,
        "net": net,
        "fold": fold,
        "parameters": PARAMETERS.get(net, 1_000_000),
        "train_images": 3 * IMAGES,
        "validation_images": IMAGES,
        "example": images[1]["name"],
        "machine": MACHINE,
        "finished": "2026-11-22T12:00:00+00:00",
        "epochs": epochs,
        "losses": losses,
        "images": images,
    }
    folder = run_folder(out, net, fold)
    folder.mkdir(parents=True)
    (folder / RESULT).write_text(json.dumps(value))
    _write_examples(out, folder, fold)


def _image(number: int, dice: float) -> dict[str, Any]:
    """Every fourth image has no nerve, and none is found; the others' Dice vary around the net's.

    With a Dice of 0 nothing is found anywhere.
    """
    nerve = number % 4 != 0
    value = dice + 0.02 * (number % 5 - 2) if nerve and dice else float(not nerve)
    found = nerve and value > 0
    return {"name": str(number), "dice": value, "iou": value / (2 - value), "nerve": nerve, "found": found}


def _write_examples(out: Path, folder: Path, fold: int) -> None:
    mask = np.zeros((42, 58), np.uint8)
    mask[10:20, 10:30] = 255
    (out / "examples").mkdir(exist_ok=True)
    cv2.imwrite(str(out / "examples" / f"{fold + 1}-image.png"), np.full_like(mask, 90))
    cv2.imwrite(str(out / "examples" / f"{fold + 1}-mask.png"), mask)
    cv2.imwrite(str(folder / "example.png"), np.roll(mask, 4, axis=1))
