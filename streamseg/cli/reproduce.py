"""``streamseg reproduce``: repeats the paper's comparison of three nets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, put_path, say, stop_on_signals
from streamseg.cli.options import JsonOption

if TYPE_CHECKING:
    from streamseg.reproduction.plan import ReplicationPlan


def reproduce(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder with images/ and masks/, or in Kaggle's or nnU-Net's layout; or phantom[:N].",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="REPORT", help="Folder of the report and its runs.")],
    folds: Annotated[int, typer.Option(metavar="K", help="Number of folds.")] = 4,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Input size, multiples of 16.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs. Default: the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Images per step.")] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Learning rate.")] = None,
    recipe: Annotated[
        str, typer.Option(help="paper: only what the paper states. best: our best settings.")
    ] = "paper",
    nets: Annotated[str, typer.Option(help="Nets, separated by commas.")] = "unet,segnet,improved_unet",
    seed: Annotated[
        int,
        typer.Option(
            metavar="S", help="Random seed of the first fold; the following folds use S + 1, S + 2, ..."
        ),
    ] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or gpu.")] = "auto",
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write a copy of the report here that shows no images of the data."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the paper's three nets and report which claims replicate.

    All nets are trained with one recipe and k-fold cross-validation. Writes report.html, report.md and
    result.json. After a stop or kill the same command resumes, without repeating finished runs.
    The report is written anew after every run and says what is missing.
    """
    from streamseg.cli.train import parse_height_width
    from streamseg.core.errors import UsageError
    from streamseg.reproduction.data import data_name, gather
    from streamseg.reproduction.plan import ReplicationPlan, check_settings, record
    from streamseg.reproduction.report import write_report
    from streamseg.reproduction.runs import Replication, ReplicationCallbacks
    from streamseg.training.config import recipe as take_recipe
    from streamseg.training.devices import make_fabric

    height, width = parse_height_width(size) if size else (None, None)
    changes = {"height": height, "width": width, "epochs": epochs, "batch": batch, "learning_rate": rate}
    config = take_recipe(recipe, **changes, seed=seed)
    fabric = make_fabric(device, config.precision)
    if fabric.world_size > 1:
        raise UsageError(
            f"reproduce runs in one process, found {fabric.world_size}; start it without torchrun"
        )
    plan = ReplicationPlan(config, folds, tuple(nets.split(",")), fabric.device.type)
    check_settings(plan, out, data_name(data))
    with Progress(data_name(data), None, "images") as progress:
        found = gather(data, plan, out, say=progress.say, advance=progress.advance)
    record(plan, out, found.facts)
    with stop_on_signals() as stop, _ReplicationProgress(plan) as display:
        callbacks = ReplicationCallbacks(
            display.step, display.epoch, lambda: write_report(out), lambda: bool(stop)
        )
        Replication(plan, found, out, fabric, callbacks).run_all()
    result = write_report(out, export=None if stop else export)
    if stop:
        say(f"stopped by {stop.cause}; the same command resumes from here")
        raise typer.Exit(stop.exit_code)
    for claim in result["claims"]:
        say(f"{claim['verdict']}: {claim['claim']}; measured {claim['measured']}")
    if as_json:
        print_json(result)
    else:
        put_path(out / "report.html")


class _ReplicationProgress:
    """Progress of consecutive runs, on stderr."""

    def __init__(self, plan: ReplicationPlan) -> None:
        self._plan = plan
        self._runs = list(plan.runs())
        self._run: tuple[str, int] | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> _ReplicationProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.__exit__()

    def step(self, net: str, fold: int, done: int, steps: int, loss: float) -> None:
        if self._run != (net, fold) or self._progress is None:
            self.__exit__()
            self._run = (net, fold)
            number = f"run {self._runs.index(self._run) + 1} of {len(self._runs)}"
            self._progress = Progress(f"{number}: {self._name(net, fold)}", steps, "steps", done=done)
            self._progress.__enter__()
        self._progress.advance_to(done, f"loss {loss:.4f}")

    def epoch(self, net: str, fold: int, line: dict[str, Any]) -> None:
        report = say if self._progress is None else self._progress.say
        report(
            f"{self._name(net, fold)}: epoch {line['epoch']}/{self._plan.config.epochs}  "
            f"loss {line['loss']:.4f}  Dice {line['dice']:.4f}  {line['images_per_second']:.1f} images/s"
        )

    def _name(self, net: str, fold: int) -> str:
        return f"{net}, fold {fold + 1} of {self._plan.folds}"
