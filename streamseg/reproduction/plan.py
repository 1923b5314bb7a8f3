"""The plan of a replication: nets, folds and one recipe, fixed at the first start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from streamseg.core.errors import DataError, UsageError
from streamseg.core.files import read_json, write_json
from streamseg.core.numbers import finite_number, whole_number
from streamseg.reproduction.paper import NETS
from streamseg.training.config import OPEN_CHOICES, TrainConfig

FORMAT = 1
PLAN_FILE = "plan.json"
MAX_FOLDS = 10_000


@dataclass(frozen=True, slots=True)
class ReplicationPlan:
    """The settings that, with the data, determine a replication. Raises UsageError for impossible ones."""

    config: TrainConfig
    """The recipe, for every net; its ``net`` is not used."""
    folds: int = 4
    nets: tuple[str, ...] = NETS
    device: str = "cpu"
    """Where training runs: ``cpu`` or ``cuda``. Part of the plan because times are compared."""

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= MAX_FOLDS:
            raise UsageError(f"cannot cross-validate with {self.folds} folds; give 2 or more, not thousands")
        unknown = [net for net in self.nets if net not in NETS]
        if unknown or not self.nets or len(set(self.nets)) < len(self.nets):
            raise UsageError(
                f"nets {','.join(self.nets)!r} cannot be compared; give some of {','.join(NETS)}, each once"
            )

    def config_for(self, net: str, fold: int) -> TrainConfig:
        """The configuration of one run. Every fold has a seed of its own, the same for all nets."""
        return replace(self.config, net=net, seed=self.config.seed + fold)

    def runs(self) -> Iterator[tuple[str, int]]:
        """Net and fold of every run, fold by fold, so that an unfinished one compares like with like."""
        return ((net, fold) for fold in range(self.folds) for net in self.nets)

    def settings(self) -> dict[str, Any]:
        """Settings by name, those of the command line by their option; values as they are read from JSON."""
        values = asdict(self.config)
        del values["net"]
        size = f"{values.pop('height')}x{values.pop('width')}"
        first = {"recipe": values.pop("recipe"), "nets": list(self.nets), "folds": self.folds, "size": size}
        return {**first, "rate": values.pop("learning_rate"), "device": self.device, **values}


def run_folder(out: Path, net: str, fold: int) -> Path:
    """The folder of one run's state and figures; its name counts folds from 1."""
    return out / "runs" / f"{net}-{fold + 1}"


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
    defaults = {**asdict(TrainConfig()), "rate": 0.0}
    numbers = [name for name, value in defaults.items() if type(value) in (int, float) and name in settings]
    return (
        isinstance(nets, list)
        and all(net in NETS for net in nets if isinstance(net, str))
        and all(isinstance(net, str) for net in nets)
        and whole_number(settings.get("folds"), 2, MAX_FOLDS) is not None
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
    defaults = asdict(TrainConfig())  # of settings that earlier versions did not have
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
