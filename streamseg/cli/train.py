"""``streamseg train``: train a net on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.options import JsonOption

if TYPE_CHECKING:
    from streamseg.training.config import TrainConfig
    from streamseg.training.data import Cache

PHANTOM_SEED = 1_000_000
"""First phantom seed of a run with seed 0; the next run seed takes the next million."""


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Folder with images/ and masks/, the Kaggle folder, or phantom[:N]."
        ),
    ],
    net: Annotated[str, typer.Option(help="unet, segnet or improved_unet.")] = "improved_unet",
    recipe: Annotated[
        str, typer.Option(help="paper: what it states, no more. best: what we found.")
    ] = "best",
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<net>-<recipe>-<seed>.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Input size, multiples of 16.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Labelled images a step, over all GPUs.")] = None,
    rate: Annotated[float | None, typer.Option(help="Largest learning rate.")] = None,
    phantom: Annotated[int, typer.Option(min=0, help="Phantom images to mix in.")] = 0,
    phantom_batch: Annotated[int, typer.Option(min=1, help="Phantom images added to each step.")] = 3,
    phantom_strength: Annotated[float | None, typer.Option(min=0, help="Of their augmentation.")] = None,
    validation: Annotated[float, typer.Option(help="Share held back: the last block of subjects.")] = 0.2,
    strength: Annotated[float | None, typer.Option(min=0, help="Strength of the augmentation.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu; several under torchrun.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Repeatable on a GPU too.")] = False,
    start: Annotated[Path | None, typer.Option(help="Weights (safetensors) to start from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a net on labelled images; killed at any moment, it goes on with --resume.

    The run folder holds the log (log.jsonl, TensorBoard), the state to resume from, and weights.safetensors,
    which replay and evaluate take as --engine.
    """
    from streamseg.core.errors import UsageError
    from streamseg.nets import NETS, build_net
    from streamseg.training.config import recipe as take_recipe

    if net not in NETS:
        build_net(net)  # says which there are
    height, width = parse_height_width(size) if size else (None, None)
    config = take_recipe(
        recipe,
        net=net,
        height=height,
        width=width,
        epochs=epochs,
        batch=batch,
        learning_rate=rate,
        phantom_batch=phantom_batch if phantom else 0,
        strength=strength,
        phantom_strength=phantom_strength,
        precision=precision,
        seed=seed,
    )
    folder = out or Path("runs") / f"{net}-{recipe}-{seed}"
    if (folder / "run.json").exists() and not resume:
        raise UsageError(f"{folder} holds a run already; go on with --resume or choose another --out")
    result = _run(config, data, folder, phantom, validation, device, deterministic, start)
    if result is not None:
        _tell(result, as_json)


def _run(
    config: TrainConfig,
    data: str,
    folder: Path,
    phantom: int,
    validation: float,
    device: str,
    deterministic: bool,
    start: Path | None,
) -> dict[str, Any] | None:
    """Train; what came out, or None in all processes but the first."""
    from streamseg.cli.console import Progress, say, stop_on_signals
    from streamseg.datasets.phantoms import open_or_draw, phantom_samples
    from streamseg.datasets.split import last_block
    from streamseg.engines.checkpoint import read_checkpoint
    from streamseg.training.data import cache_samples, near_duplicates_of
    from streamseg.training.devices import make_fabric
    from streamseg.training.run_folder import TrainingCallbacks
    from streamseg.training.trainer import fit

    begin = read_checkpoint(start).weights if start else None
    fabric = make_fabric(device, config.precision, deterministic=deterministic)
    first = fabric.is_global_zero
    with fabric.rank_zero_first():  # one process draws and decodes, the others find it done
        samples = open_or_draw(data, folder, say=say)
        cache = cache_samples(samples, config.spec)
        twins = near_duplicates_of(samples)
    if twins.groups and first:
        say(
            f"{len(twins.groups)} groups of near-identical images, {len(twins.contradictions)} pairs with "
            "contradicting masks; none is split (streamseg check lists them)"
        )
    fold = last_block(samples, validation, twins=twins.groups)
    seed = PHANTOM_SEED * (config.seed + 1)
    mixed: Cache | None = None
    if phantom:
        mixed = cache_samples(phantom_samples(phantom, seed=seed), config.spec)
    if not first:
        fit(config, cache, fold, folder, phantom=mixed, start=begin, fabric=fabric)
        return None
    say(f"{len(fold.train)} images to train on, {len(fold.validation)} held back; {folder}")
    with stop_on_signals() as stop, Progress(config.net, None, "steps") as progress:

        def on_step(done: int, _: int, loss: float) -> None:
            progress.advance_to(done, f"loss {loss:.4f}")

        def on_epoch(line: dict[str, Any]) -> None:
            progress.say(
                f"epoch {line['epoch']}/{config.epochs}  loss {line['loss']:.4f}  Dice {line['dice']:.4f}  "
                f"{line['seconds']:.0f} s  {line['images_per_second']:.1f} images/s"
            )

        alone = fabric.world_size == 1
        should_stop = (lambda: bool(stop)) if alone else (lambda: False)
        watch = TrainingCallbacks(on_step, on_epoch, should_stop, progress.start_from)
        done = fit(config, cache, fold, folder, phantom=mixed, start=begin, fabric=fabric, watch=watch)
    if not done.finished:
        say(f"stopped by {stop.cause} in epoch {done.history.epoch + 1}; go on with --resume --out {folder}")
        raise typer.Exit(stop.exit_code)
    last = done.history.epochs[-1]
    return {"run": str(folder), "weights": str(folder / "weights.safetensors"), **last}


def _tell(result: dict[str, Any], as_json: bool) -> None:
    from streamseg.cli.console import print_json

    if as_json:
        print_json(result)
    else:
        typer.echo(result["weights"])


def parse_height_width(text: str) -> tuple[int, int]:
    """Read ``HxW``. Raises UsageError."""
    from streamseg.core.errors import UsageError

    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError as error:
        raise UsageError(f"size {text!r} is not HxW, such as 192x224") from error
    return height, width
