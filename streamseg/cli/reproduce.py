"""``streamseg reproduce``: the paper's comparison of three nets, done again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, say, stop_on_signals
from streamseg.cli.options import JsonOption

if TYPE_CHECKING:
    from streamseg.reproduction.plan import Plan


def reproduce(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder with images/ and masks/, Kaggle's folder, or phantom[:N] (default 200).",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="REPORT", help="Folder of the report and its runs.")],
    folds: Annotated[int, typer.Option(metavar="K", help="Parts, each held back once.")] = 4,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Input size, multiples of 32.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Images a step.")] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Learning rate.")] = None,
    recipe: Annotated[str, typer.Option(help="paper or best; what is not given is its choice.")] = "paper",
    nets: Annotated[str, typer.Option(help="Which nets, with commas.")] = "unet,segnet,improved_unet",
    seed: Annotated[int, typer.Option(metavar="S", help="The first fold's; the next ones count on.")] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or gpu.")] = "auto",
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write what holds no picture, for publishing.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the paper's three nets under one recipe, k-fold, and report what of the paper replicates.

    Writes report.html, report.md and result.json. Killed at any moment, the same call goes on; what is done
    costs nothing. The report is written anew after every run and says what is missing.
    """
    from streamseg.reproduction.material import data_name, gather
    from streamseg.reproduction.plan import Plan, check_settings, record
    from streamseg.reproduction.report import write_report
    from streamseg.reproduction.runs import Follow, Replication
    from streamseg.training.config import recipe as recipe_of
    from streamseg.training.devices import make_fabric

    height, width = (None, None) if size is None else _size(size)
    changes = {"height": height, "width": width, "epochs": epochs, "batch": batch, "learning_rate": rate}
    config = recipe_of(recipe, **changes, seed=seed)
    fabric = make_fabric(device, config.precision)
    plan = Plan(config, folds, tuple(nets.split(",")), fabric.device.type)
    check_settings(plan, out, data_name(data))
    with Progress(data_name(data), None, "images") as progress:
        material = gather(data, plan, out, say=say, advance=progress.advance)
    record(plan, out, material.facts)
    with stop_on_signals() as stop:
        follow = Follow(
            on_epoch=lambda net, fold, line: say(_line(plan, net, fold, line)),
            on_run=lambda: write_report(out),
            should_stop=lambda: bool(stop),
        )
        Replication(plan, material, out, fabric, follow).run_all()
        result = write_report(out, export=export)
    if stop:
        say(f"stopped by {stop.cause}; the same call goes on from here")
        raise typer.Exit(stop.exit_code)
    if as_json:
        print_json(result)
    else:
        typer.echo(out / "report.html")


def _size(text: str) -> tuple[int, int]:
    from streamseg.cli.train import parse_size

    return parse_size(text)


def _line(plan: Plan, net: str, fold: int, line: dict[str, Any]) -> str:
    return (
        f"{net}, fold {fold + 1} of {plan.folds}: epoch {line['epoch']} of {plan.config.epochs}  "
        f"loss {line['loss']:.4f}  Dice {line['dice']:.4f}  {line['images_per_second']:.1f} images/s"
    )
