"""The configuration of a training run, its learning rate, and two recipes: the paper's and our best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from streamseg.core.errors import UsageError
from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import InputSpec

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
TaughtFrom = Literal["changed", "original"]


SETTLED = 0.4
"""Factor of the strength of the augmentation and the share of restyled images in the last epochs."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The settings that, with the data, determine a run's result. Defaults are the paper's recipe."""

    net: str = "improved_unet"
    recipe: str = "paper"
    """The recipe that the values are from, ``paper`` or ``best``; single ones may have been changed."""
    height: int = 96
    width: int = 128
    epochs: int = 30
    batch: int = 4
    """Labelled images a step, over all processes."""
    phantom_batch: int = 0
    """Phantom images added to each step, over all processes."""
    absent_batch: int = 0
    """Images without nerve added to each step, over all processes."""
    loss: Literal["dice", "dice+bce"] = "dice"
    smoothing: float = 1.0
    """k of the Dice loss, in pixels."""
    learning_rate: float = 1e-4
    schedule: Literal["constant", "warm", "one-cycle"] = "constant"
    """``warm``: up in the first steps, then constant. ``one-cycle``: up in the first tenth of the steps, then
    a half cosine to 0."""
    weight_decay: float = 0.0
    """Decoupled (AdamW); with 0 the optimiser is Adam."""
    average: float = 0.0
    """Decay per step of the running average of the weights, which is then the result; 0 for none."""
    vessel_weight: float = 0.0
    """Weight of the loss of the vessel plane; 0 for a net of nerves alone."""
    strength: float = 0.0
    """Strength of the augmentation; 0 for none."""
    phantom_strength: float = 0.5
    """Strength of the phantoms' augmentation, lower because phantoms vary already."""
    restyle: float = 0.0
    """Share of the images, 0..1, that are made to look as if another machine had taken them."""
    settle: float = 0.0
    """Share of the epochs, 0..1, at the end in which images are changed less (SETTLED): augmented ones are
    smoother and larger than those that the net will see."""
    teachers: str = ""
    """sha256 of the checkpoints whose mean probability is a target beside the labels, separated by commas."""
    soft: float = 0.0
    """Weight of the teachers' target, 0..1; the labels have the rest."""
    taught_from: TaughtFrom = "changed"
    """The images that the teachers see: ``changed``, as the net sees them in each step; or ``original``, each
    once as it is, and their target is then warped with it, which costs nothing in a step. Phantoms are
    taught by their labels then, which are exact."""
    frozen_statistics: bool = False
    """BatchNorm uses its running statistics and does not update them."""
    precision: Precision = "32-true"
    patience: int = 0
    """Epochs without a gain after which a run ends (:func:`is_flat`); 0 for a run of all epochs."""
    gain: float = 0.005
    """The gain in held-back Dice that counts for ``patience``."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.height < 32 or self.width < 32 or self.height % 16 or self.width % 16:
            raise UsageError(
                f"cannot train at {self.height}x{self.width}; "
                "give a height and a width of at least 32, in multiples of 16"
            )
        for name in ("restyle", "settle", "soft"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name)} is a share; give 0 to 1")
        for name, kinds in (("precision", Precision), ("taught_from", TaughtFrom)):
            if getattr(self, name) not in get_args(kinds):
                raise UsageError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(get_args(kinds))}"
                )
        if not -(2**63) <= self.seed < 2**63:
            raise UsageError(f"seed {self.seed} does not fit 64 bits; give a smaller one")
        if self.patience and (self.schedule == "one-cycle" or self.average):
            raise UsageError(
                f"patience {self.patience} may end a run before its last epoch, for which schedule "
                f"{self.schedule} and average {self.average:g} are made; leave patience out, or take recipe "
                "paper"
            )
        if self.patience < 0 or not 0 <= self.gain <= 1:
            raise UsageError(
                f"patience {self.patience} and gain {self.gain:g} are no rule; give 0 or more epochs, 0 to 1"
            )
        for name in ("epochs", "batch", "learning_rate", "smoothing"):
            if not getattr(self, name) > 0:
                raise UsageError(f"cannot train with {name} {getattr(self, name)}; give more than 0")

    def changes_at(self, epoch: int) -> float:
        """Factor of the augmentation's strength and the share of restyled images in epoch 0..epochs-1."""
        return SETTLED if epoch >= self.epochs - round(self.settle * self.epochs) else 1.0

    @property
    def spec(self) -> InputSpec:
        """The net's input, grey 0..1, 0.25 subtracted, divided by 0.25, and its structures."""
        structures = (NERVE, VESSEL)[: self.outputs]
        return InputSpec(self.height, self.width, mean=0.25, std=0.25, threshold=0.5, structures=structures)

    @property
    def outputs(self) -> int:
        """Planes of the net's head: nerve, and vessel if that is trained too."""
        return 2 if self.vessel_weight else 1


OPEN_CHOICES: dict[str, str] = {
    "input size": "not stated; 96x128 keeps the images' shape (420x580) and is affordable without a GPU",
    "input scaling": "not stated; grey / 255, then (x - 0.25) / 0.25, letterboxed to the input size",
    "batch": "not stated; 4 images",
    "learning rate": "not stated; 1e-4, constant (at 3e-4 U-Net mostly collapsed to empty masks)",
    "epochs": "not stated; as given",
    "Adam's moments": "not stated; 0.9 and 0.999, no weight decay",
    "k of the loss": "not stated; 1 pixel",
    "initial weights": "not stated; PyTorch's defaults (uniform after He)",
    "augmentation": "none is mentioned; none",
    "threshold": "not stated; 0.5",
    "validation": "the competition's test masks are hidden; k-fold, by subject or in contiguous blocks",
}
"""What the paper does not state, with the value that the recipe ``paper`` uses."""

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "best": {
        "height": 192,
        "width": 224,
        "epochs": 80,
        "batch": 12,
        "loss": "dice+bce",
        "learning_rate": 1e-3,
        "schedule": "one-cycle",
        "weight_decay": 1e-2,
        "average": 0.998,
        "vessel_weight": 0.5,
        "strength": 1.5,
        "restyle": 0.7,
    },
}
"""Each recipe's differences from TrainConfig's defaults."""
BEST_SIZES = {"lite_unet": (256, 256)}
"""Height and width of the recipe ``best`` for nets that take another input than its own."""
SHARES = {"phantom_batch": 2, "absent_batch": 3}
"""Images that are added to each step of the recipe ``best`` if there are any."""
SOFT = 0.7
"""Weight of the teachers' target if there are teachers."""
TAUGHT_FROM: TaughtFrom = "original"
"""What new runs' teachers see: in images as they are they find more, and that costs less (docs/log.md)."""


def recipe(name: str, **changes: Any) -> TrainConfig:
    """A recipe's configuration with some values changed; None leaves a value as it is.

    Raises UsageError for an unknown recipe, field or an impossible value.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    known = {field.name for field in fields(TrainConfig)}
    if unknown := changes.keys() - known:
        raise UsageError(f"unknown training settings: {', '.join(sorted(unknown))}")
    given = {key: value for key, value in changes.items() if value is not None}
    values = dict(RECIPES[name])
    if name == "best" and given.get("net") in BEST_SIZES:
        values["height"], values["width"] = BEST_SIZES[given["net"]]
    return replace(TrainConfig(recipe=name, **values), **given)


def is_flat(dice: Sequence[float | None], config: TrainConfig) -> bool:
    """Whether a run ends: none of its last ``patience`` epochs has a held-back Dice at least ``gain`` above
    the best of all earlier ones.

    ``dice`` are those of the complete epochs; None, of a run that holds nothing back, never ends it.
    """
    known = [value for value in dice if value is not None]
    if not config.patience or len(known) <= config.patience:
        return False
    return max(known[-config.patience :]) < max(known[: -config.patience]) + config.gain


WARM_STEPS = 200
"""Maximum length of the rise of ``warm``."""


def rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of step 0..steps-1.

    ``constant``; ``warm``: up from a 25th in the first tenth (at most WARM_STEPS), then constant;
    ``one-cycle``: up from a 25th in the first tenth, then a half cosine to 0.
    """
    peak = config.learning_rate
    if config.schedule == "constant":
        return peak
    rise = max(1, steps // 10)
    if config.schedule == "warm":
        rise = min(rise, WARM_STEPS)
    if step < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * step / rise)
    if config.schedule == "warm":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
