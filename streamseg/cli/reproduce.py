"""``streamseg reproduce``: repeats the paper's comparison of three nets."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, put_path, say, stop_on_signals
from streamseg.cli.options import JsonOption


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
    precision: Annotated[
        str | None,
        typer.Option(
            help="32-true, bf16-mixed or 16-mixed; auto: bf16-mixed where the device computes in bfloat16. "
            "Other than 32-true is used only if trials show that it changes nothing. Default: 32-true."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="End a run if none of its last N epochs has a held-back Dice that is higher by --gain than "
            "the best before. Default: all epochs.",
        ),
    ] = None,
    gain: Annotated[
        float | None, typer.Option(metavar="D", help="Gain for --patience. Default: 0.005.")
    ] = None,
    rates: Annotated[
        str, typer.Option(metavar="R,R,...", help="Try these learning rates first; each net gets its best.")
    ] = "",
    trial_epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Epochs of each trial.")] = 4,
    beside: Annotated[
        str,
        typer.Option(
            metavar="NET,...", help="Also train these nets by the recipe best, on the same folds and size."
        ),
    ] = "",
    beside_epochs: Annotated[
        int, typer.Option(min=0, metavar="N", help="Their epochs. Default: as many as the others at most.")
    ] = 0,
    rounds: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="After all runs, time steps of the nets in turn, N rounds."),
    ] = 0,
    about: Annotated[
        str, typer.Option(metavar="TEXT", help="What the report says about the data, in your words.")
    ] = "",
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
    result.json. After a stop or kill the same command resumes, without repeating finished runs; minutes of
    training are lost at most.
    The report is written anew after every run and says what is missing.
    """
    from streamseg.cli.train import parse_height_width
    from streamseg.core.errors import UsageError
    from streamseg.reproduction.data import data_name, gather
    from streamseg.reproduction.plan import ReplicationPlan, check_settings, record
    from streamseg.reproduction.report import write_report
    from streamseg.reproduction.runs import Replication, ReplicationCallbacks
    from streamseg.training.config import recipe as take_recipe
    from streamseg.training.devices import fastest_precision, make_fabric

    height, width = parse_height_width(size) if size else (None, None)
    if rates and rate is not None:
        raise UsageError(
            f"--rate {rate:g} is one rate and --rates {rates} tries several; give one of the two"
        )
    changes = {
        "height": height,
        "width": width,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": rate,
        "precision": fastest_precision(device) if precision == "auto" else precision,
        "patience": patience,
        "gain": gain,
    }
    config = take_recipe(recipe, **changes, seed=seed)
    fabric_of = cache(partial(make_fabric, device))
    fabric = fabric_of(config.precision)
    if fabric.world_size > 1:
        raise UsageError(
            f"reproduce runs in one process, found {fabric.world_size}; start it without torchrun"
        )
    plan = ReplicationPlan(
        config,
        folds,
        tuple(nets.split(",")),
        fabric.device.type,
        rates=parse_rates(rates),
        trial_epochs=trial_epochs,
        beside=tuple(beside.split(",")) if beside else (),
        beside_epochs=beside_epochs,
        rounds=rounds,
        about=about,
    )
    check_settings(plan, out, data_name(data))
    with Progress(data_name(data), None, "images") as progress:
        found = gather(data, plan, out, say=progress.say, advance=progress.advance)
    record(plan, out, found.facts)
    with stop_on_signals() as stop, _ReplicationProgress() as display:
        callbacks = ReplicationCallbacks(
            display.step, display.epoch, lambda: write_report(out), lambda: bool(stop)
        )
        Replication(plan, found, out, fabric_of, callbacks).run_all()
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


def parse_rates(text: str) -> tuple[float, ...]:
    """Read ``R,R,...``. Raises UsageError."""
    from streamseg.core.errors import UsageError

    try:
        return tuple(float(rate) for rate in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"rates {text!r} are not numbers with commas, such as 0.0001,0.001") from error


class _ReplicationProgress:
    """Progress of consecutive runs, on stderr."""

    def __init__(self) -> None:
        self._what = ""
        self._progress: Progress | None = None

    def __enter__(self) -> _ReplicationProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.__exit__()

    def step(self, what: str, done: int, steps: int, loss: float) -> None:
        if self._what != what or self._progress is None:
            self.__exit__()
            self._what = what
            self._progress = Progress(what, steps, "steps", done=done)
            self._progress.__enter__()
        self._progress.advance_to(done, f"loss {loss:.4f}")

    def epoch(self, what: str, epochs: int, line: dict[str, Any]) -> None:
        report = say if self._progress is None else self._progress.say
        report(
            f"{what}: epoch {line['epoch']}/{epochs}  "
            f"loss {line['loss']:.4f}  Dice {line['dice']:.4f}  {line['images_per_second']:.1f} images/s"
        )
