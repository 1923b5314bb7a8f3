"""The plan of a replication: nets, folds and one recipe, fixed at the first start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from streamseg.core.errors import DataError, UsageError
from streamseg.core.files import read_json, write_json
from streamseg.core.numbers import finite_number, whole_number
from streamseg.nets import NETS as ALL_NETS
from streamseg.reproduction.paper import NETS, TITLES
from streamseg.training.config import OPEN_CHOICES, Precision, TrainConfig, recipe

FORMAT = 1
PLAN_FILE = "plan.json"
MAX_FOLDS = 10_000
TRIAL_EPOCHS = 4
FULL: Precision = "32-true"
BEST = "-best"
"""Ends the name of a net that is trained by the recipe ``best``."""
LATER: dict[str, Any] = {
    "rates": [],
    "trial_epochs": TRIAL_EPOCHS,
    "beside": [],
    "beside_epochs": 0,
    "rounds": 0,
    "about": "",
}
"""Settings that plans of earlier versions lack, as those versions did it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A short run before the folds, by which a learning rate or the arithmetic is chosen."""

    net: str
    rate: float
    precision: Precision

    @property
    def name(self) -> str:
        """The name of its folder, such as ``unet-0.0001-bf16-mixed``."""
        return f"{self.net}-{self.rate:g}-{self.precision}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the trials decided; without trials, what the plan says."""

    rates: Mapping[str, float]
    """The learning rate of each net."""
    precision: Precision
    """The arithmetic of all nets."""


@dataclass(frozen=True, slots=True)
class ReplicationPlan:
    """The settings that, with the data, determine a replication. Raises UsageError for impossible ones."""

    config: TrainConfig
    """The recipe, for every net; its ``net`` is not used, nor is its learning rate if there are ``rates``."""
    folds: int = 4
    nets: tuple[str, ...] = NETS
    device: str = "cpu"
    """Where training runs: ``cpu`` or ``cuda``. Part of the plan because times are compared."""
    rates: tuple[float, ...] = ()
    """Learning rates of which each net gets its own by trials; none: all nets have the recipe's."""
    trial_epochs: int = TRIAL_EPOCHS
    beside: tuple[str, ...] = ()
    """Nets that are trained by the recipe ``best`` on the same folds, at the same input size."""
    beside_epochs: int = 0
    """Their epochs; 0: as many as the paper's nets have at most."""
    rounds: int = 0
    """Rounds in which steps of the paper's nets are timed in turn, after all runs; 0: only the runs are."""
    about: str = ""
    """What the report says about the data beside what is found in it."""

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= MAX_FOLDS:
            raise UsageError(f"cannot cross-validate with {self.folds} folds; give 2 or more, not thousands")
        unknown = [net for net in self.nets if net not in NETS]
        if unknown or not self.nets or len(set(self.nets)) < len(self.nets):
            raise UsageError(
                f"nets {','.join(self.nets)!r} cannot be compared; give some of {','.join(NETS)}, each once"
            )
        if len({*self.rates}) < len(self.rates) or any(not 0 < rate < 1 for rate in self.rates):
            raise UsageError(
                f"learning rates {','.join(f'{rate:g}' for rate in self.rates)} cannot be tried; "
                "give different ones between 0 and 1"
            )
        if self.trial_epochs < 1 or self.beside_epochs < 0:
            raise UsageError(
                f"cannot train for {min(self.trial_epochs, self.beside_epochs)} epochs; give more"
            )
        if self.has_trials and self.folds < 3:
            raise UsageError(
                f"trials of rates or arithmetic need a fold of their own, found {self.folds}; give --folds 3"
            )
        if len(set(self.beside)) < len(self.beside) or any(net not in ALL_NETS for net in self.beside):
            raise UsageError(
                f"nets {','.join(self.beside)!r} cannot be trained beside the paper's; "
                f"give some of {','.join(ALL_NETS)}, each once"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ReplicationPlan:
        """The plan that has these :meth:`settings`; those that earlier versions lack have their defaults.

        Raises UsageError, ValueError, TypeError, KeyError for settings that cannot be.
        """
        values = {**asdict(TrainConfig()), **LATER, **settings}
        height, width = (int(side) for side in values["size"].split("x"))
        own = {field.name: values[field.name] for field in fields(TrainConfig)}
        config = TrainConfig(
            **own | {"height": height, "width": width, "learning_rate": values["rate"], "net": NETS[0]}
        )
        return cls(
            config,
            values["folds"],
            tuple(values["nets"]),
            values["device"],
            tuple(values["rates"]),
            values["trial_epochs"],
            tuple(values["beside"]),
            values["beside_epochs"],
            values["rounds"],
            values["about"],
        )

    @property
    def has_trials(self) -> bool:
        return bool(self.rates) or self.config.precision != FULL

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that is trained on every fold: the paper's nets, and those beside them as ``<net>-best``."""
        return (*self.nets, *(net + BEST for net in self.beside))

    def config_for(self, name: str, fold: int, chosen: Chosen | None = None) -> TrainConfig:
        """The configuration of one run. Every fold has a seed of its own, the same for all nets."""
        chosen = chosen or self.default
        seed, config = self.config.seed + fold, self.config
        if name in self.nets:
            rate = chosen.rates[name]
            return replace(config, net=name, seed=seed, learning_rate=rate, precision=chosen.precision)
        return recipe(
            "best",
            net=name.removesuffix(BEST),
            height=config.height,
            width=config.width,
            epochs=self.beside_epochs or config.epochs,
            vessel_weight=0.0,  # nerve alone, as in the paper
            precision=chosen.precision,
            seed=seed,
        )

    def config_of(self, trial: Trial) -> TrainConfig:
        """The configuration of a trial: that of the first fold, shorter."""
        return replace(
            self.config,
            net=trial.net,
            learning_rate=trial.rate,
            precision=trial.precision,
            epochs=self.trial_epochs,
            patience=0,
        )

    @property
    def default(self) -> Chosen:
        """What is used without trials."""
        return Chosen(dict.fromkeys(self.nets, self.config.learning_rate), self.config.precision)

    def runs(self) -> Iterator[tuple[str, int]]:
        """Name and fold of every run: the paper's nets fold by fold, so that an unfinished one compares like
        with like, then those beside them."""
        for names in (self.nets, self.names[len(self.nets) :]):
            yield from ((name, fold) for fold in range(self.folds) for name in names)

    def settings(self) -> dict[str, Any]:
        """Settings by name, those of the command line by their option; values as they are read from JSON."""
        values = asdict(self.config)
        del values["net"]
        size = f"{values.pop('height')}x{values.pop('width')}"
        first = {"recipe": values.pop("recipe"), "nets": list(self.nets), "folds": self.folds, "size": size}
        own = {
            "rates": list(self.rates),
            "trial_epochs": self.trial_epochs,
            "beside": list(self.beside),
            "beside_epochs": self.beside_epochs,
            "rounds": self.rounds,
            "about": self.about,
        }
        return {**first, "rate": values.pop("learning_rate"), "device": self.device, **values, **own}


def title(name: str) -> str:
    """Human-readable name of what is trained on the folds."""
    net = name.removesuffix(BEST)
    found = TITLES.get(net, net)
    return found if name == net else f"{found}, recipe best"


def run_folder(out: Path, name: str, fold: int) -> Path:
    """The folder of one run's state and figures; its name counts folds from 1."""
    return out / "runs" / f"{name}-{fold + 1}"


def trial_folder(out: Path, trial: Trial) -> Path:
    """The folder of a trial's state and figures."""
    return out / "trials" / trial.name


def read_plan(out: Path) -> dict[str, Any] | None:
    """The plan of the report in ``out``: settings, data, open_choices; None if none was started.

    Raises DataError for a damaged one, UsageError for one of another version.
    """
    stored = read_json(out / PLAN_FILE)
    if stored is None:
        return None
    if stored.get("format") != FORMAT:
        raise UsageError(f"{out} was made by another version of streamseg; choose another --out")
    if not _is_whole(stored):
        raise DataError(f"{out / PLAN_FILE} is damaged; restore it or choose another --out")
    return stored


def _is_whole(stored: Mapping[str, Any]) -> bool:
    """Whether the parts of a stored plan that others read are there, and within bounds."""
    if not all(isinstance(stored.get(key), dict) for key in ("settings", "data", "open_choices")):
        return False
    settings, data = stored["settings"], stored["data"]
    nets = settings.get("nets")
    defaults = {**asdict(TrainConfig()), **LATER, "rate": 0.0}
    rates, beside = settings.get("rates", []), settings.get("beside", [])
    numbers = [name for name, value in defaults.items() if type(value) in (int, float) and name in settings]
    return (
        isinstance(nets, list)
        and all(net in NETS for net in nets if isinstance(net, str))
        and all(isinstance(net, str) for net in nets)
        and whole_number(settings.get("folds"), 2, MAX_FOLDS) is not None
        and isinstance(rates, list)
        and all(finite_number(rate, 0, 1) is not None for rate in rates)
        and isinstance(beside, list)
        and all(isinstance(net, str) and net in ALL_NETS for net in beside)
        and settings.get("precision", FULL) in get_args(Precision)
        and isinstance(settings.get("about", ""), str)
        and all(finite_number(settings[name], -1e18, 1e18) is not None for name in numbers)
        and all(whole_number(data.get(name), 0, 10**12) is not None for name in ("images", "with_nerve"))
        and all(isinstance(data.get(name), list) for name in ("twins", "contradictions"))
    )


def check_settings(plan: ReplicationPlan, out: Path, data: str) -> None:
    """Raise UsageError if the report in ``out`` was started with other settings or data of another name.

    Raises DataError if its plan is damaged. A folder without a plan accepts any settings.
    """
    stored = read_plan(out)
    if stored is None:
        return
    defaults = asdict(TrainConfig()) | LATER  # of settings that earlier versions did not have
    old = {**defaults, **stored["settings"], "data": stored["data"].get("name")}
    new = {**plan.settings(), "data": data}
    changed = [
        f"{key} {_text(old.get(key))} (now {_text(new[key])})" for key in new if old.get(key) != new[key]
    ]
    if changed:
        raise UsageError(
            f"report {out} was started with {', '.join(changed)}; give the same or another --out"
        )


def record(plan: ReplicationPlan, out: Path, facts: Mapping[str, Any]) -> None:
    """Write the plan with the facts about the data at the first start; later compare the data.

    Raises UsageError if the images are not those that the report was started with, SinkError.
    """
    stored = read_plan(out)
    if stored is None:
        value = {"format": FORMAT, "settings": plan.settings(), "data": facts, "open_choices": OPEN_CHOICES}
        write_json(out / PLAN_FILE, value)
    elif stored["data"].get("fingerprint") != facts["fingerprint"]:
        raise UsageError(
            f"report {out} was started with other images or masks of {facts['name']} "
            f"({stored['data'].get('images')}, now {facts['images']}); restore them or choose another --out"
        )
    elif stored["data"].get("split", facts["split"]) != facts["split"]:
        raise UsageError(
            f"report {out} was started with other folds of {facts['name']}, by another version of streamseg; "
            "choose another --out"
        )


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
