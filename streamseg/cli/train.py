"""``streamseg train``: train a net on labelled images."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from streamseg.cli.console import Progress, Stop, print_json, put_path, say, stop_on_signals
from streamseg.cli.options import JsonOption

if TYPE_CHECKING:
    from streamseg.training.data import TrainingData
    from streamseg.training.run_folder import TrainingCallbacks, TrainingOutcome
    from streamseg.training.trainer import TrainingJob

NET, RECIPE = "improved_unet", "best"
"""By default."""


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder with images/ and masks/, or in Kaggle's or nnU-Net's layout; or phantom[:N].",
        ),
    ],
    net: Annotated[
        str | None,
        typer.Option(help="unet, segnet, improved_unet or lite_unet. Default: improved_unet."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="paper: only what the paper states. best: our best settings. Default: best."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/<net>-<recipe>-<seed>.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Input size, multiples of 16 or 32 (segnet, lite_unet).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs. Default: the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Labelled images per step, over all GPUs.")] = None,
    rate: Annotated[float | None, typer.Option(help="Maximum learning rate.")] = None,
    phantom: Annotated[int, typer.Option(min=0, help="Phantom images to mix in.")] = 0,
    phantom_batch: Annotated[
        int | None, typer.Option(min=1, help="Phantom images added to each step. Default: 2.")
    ] = None,
    phantom_strength: Annotated[
        float | None, typer.Option(min=0, help="Augmentation strength of the phantom images.")
    ] = None,
    absent: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="Images without nerve to mix in: a data set whose masks are all 0. Repeatable.",
        ),
    ] = None,
    absent_batch: Annotated[
        int | None, typer.Option(min=1, help="Images without nerve added to each step. Default: 3.")
    ] = None,
    validation: Annotated[
        float,
        typer.Option(help="Share held out for validation: the last block of subjects. 0: train on all."),
    ] = 0.2,
    strength: Annotated[float | None, typer.Option(min=0, help="Augmentation strength.")] = None,
    restyle: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the images made to look as if from another machine."),
    ] = None,
    settle: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the epochs, the last ones, in which images are changed less. Default: 0.",
        ),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Weights whose probabilities are learnt beside the labels. Repeatable: their mean.",
        ),
    ] = None,
    taught_from: Annotated[
        str | None,
        typer.Option(
            help="original: teachers see each image once, and what they find is changed with it. changed: "
            "they see the images of each step, changed as they are. Default: original."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: 0.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu; several under torchrun.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="32-true, bf16-mixed or 16-mixed. Default: bf16-mixed where the device computes in "
            "bfloat16; by the recipe paper 32-true."
        ),
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Give repeatable results on a GPU too.")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            "--start",
            metavar="WEIGHTS",
            help="Weights to begin with: imagenet (lite_unet's encoder), default (the shipped ones), random, "
            "or a safetensors file. Default: imagenet for lite_unet by the recipe best, else random.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in --out, with its own settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a net on labelled images; --resume continues a run.

    A run can be stopped or killed at any moment and continued with --resume. The run folder holds the log
    (log.jsonl, TensorBoard), the state to resume from, and weights.safetensors, which replay and evaluate
    take as --engine.
    """
    from streamseg.core.errors import UsageError
    from streamseg.engines.checkpoint import read_checkpoint
    from streamseg.training.config import SHARES, SOFT, TAUGHT_FROM
    from streamseg.training.config import recipe as take_recipe
    from streamseg.training.devices import fastest_precision
    from streamseg.training.run_folder import RUN, stored_config
    from streamseg.training.trainer import TrainingJob, run

    height, width = parse_height_width(size) if size else (None, None)
    teachers = tuple(teacher or ())
    options: dict[str, Any] = {
        "net": net,
        "recipe": recipe,
        "height": height,
        "width": width,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": rate,
        "phantom_batch": phantom_batch if phantom else None,
        "phantom_strength": phantom_strength,
        "absent_batch": absent_batch if absent else None,
        "strength": strength,
        "restyle": restyle,
        "settle": settle,
        "teachers": ",".join(read_checkpoint(path).sha256 for path in teachers) or None,
        "taught_from": taught_from,
        "precision": precision,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    folder = out or Path("runs") / "-".join(
        str(given.get(name, usual)) for name, usual in (("net", NET), ("recipe", RECIPE), ("seed", 0))
    )
    if (folder / RUN).exists() and not resume:
        raise UsageError(f"{folder} holds a run already; resume it with --resume or choose another --out")
    stored = stored_config(folder)
    if stored is not None:
        config = replace(stored, **given)
    else:
        usual = {
            "net": NET,
            "phantom_batch": SHARES["phantom_batch"] if phantom else None,
            "absent_batch": SHARES["absent_batch"] if absent else None,
            "soft": SOFT if teachers else None,
            "taught_from": TAUGHT_FROM if teachers else None,
            "precision": fastest_precision(device) if recipe != "paper" else None,
        }
        config = take_recipe(given.pop("recipe", RECIPE), **{**usual, **given})
    job = TrainingJob(
        config,
        data,
        folder,
        phantom=phantom,
        absent=tuple(absent or ()),
        validation=validation,
        device=device,
        deterministic=deterministic,
        init=init,
        teachers=teachers,
    )
    with _TrainingProgress(job) as display:
        outcome = run(job, display.callbacks())
    if outcome is not None:
        _report(job, outcome, display.stop, as_json)


class _TrainingProgress:
    """Progress on stderr, and stopping at Ctrl-C, both as soon as the data is read."""

    def __init__(self, job: TrainingJob) -> None:
        self.stop = Stop()
        self._job = job
        self._progress = Progress(job.config.net, None, "steps")
        self._contexts = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._contexts.close()

    def callbacks(self) -> TrainingCallbacks:
        from streamseg.training.run_folder import TrainingCallbacks

        return TrainingCallbacks(
            on_step=lambda done, _, loss: self._progress.advance_to(done, f"loss {loss:.4f}"),
            on_epoch=self._on_epoch,
            on_start=self._progress.start_from,
            on_data=self._on_data,
            say=say,
            should_stop=lambda: bool(self.stop),
        )

    def _on_data(self, data: TrainingData) -> None:
        fold = data.fold
        say(f"{len(fold.train)} images to train on, {len(fold.validation)} held back; {self._job.folder}")
        self.stop = self._contexts.enter_context(stop_on_signals())
        self._contexts.enter_context(self._progress)

    def _on_epoch(self, line: dict[str, Any]) -> None:
        dice = "" if line["dice"] is None else f"Dice {line['dice']:.4f}  "
        self._progress.say(
            f"epoch {line['epoch']}/{self._job.config.epochs}  loss {line['loss']:.4f}  "
            f"{dice}{line['seconds']:.0f} s  {line['images_per_second']:.1f} images/s"
        )


def _report(job: TrainingJob, outcome: TrainingOutcome, stop: Stop, as_json: bool) -> None:
    if not outcome.finished:
        epoch = outcome.history.epoch + 1
        say(f"stopped by {stop.cause} in epoch {epoch}; resume with --resume --out {job.folder}")
        raise typer.Exit(stop.exit_code)
    weights = str(job.folder / "weights.safetensors")
    if as_json:
        print_json({"run": str(job.folder), "weights": weights, **outcome.history.epochs[-1]})
    else:
        put_path(weights)


def parse_height_width(text: str) -> tuple[int, int]:
    """Read ``HxW``. Raises UsageError."""
    from streamseg.core.errors import UsageError

    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError as error:
        raise UsageError(f"size {text!r} is not HxW, such as 192x224") from error
    return height, width
