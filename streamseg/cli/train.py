"""``streamseg train``: a small trainer for the default weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[Path, typer.Argument(help="Data set: images/ and masks/, or Kaggle's train/.")],
    out: Annotated[Path, typer.Option(help="Run folder: log, resumable state, weights.")],
    net: Annotated[str, typer.Option(help="unet, segnet or improved_unet.")] = "improved_unet",
    size: Annotated[str, typer.Option(help="Input size HxW, multiples of 16.")] = "192x224",
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    batch: Annotated[int, typer.Option(min=2, help="Labelled images a step.")] = 8,
    rate: Annotated[float, typer.Option(help="Largest learning rate.")] = 1e-3,
    phantom: Annotated[int, typer.Option(min=0, help="Phantom images to mix in.")] = 0,
    phantom_batch: Annotated[int, typer.Option(min=0, help="Phantom images added to each step.")] = 3,
    validation: Annotated[float, typer.Option(help="Share held back: the last block.")] = 0.2,
    strength: Annotated[float, typer.Option(min=0, help="Strength of the augmentation.")] = 1.0,
    seed: Annotated[int, typer.Option()] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights (safetensors) to start from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a net on labelled images; killed at any moment, it goes on with --resume."""
    import torch

    from streamseg.checkpoint import read_checkpoint
    from streamseg.cli.console import say
    from streamseg.datasets import open_dataset, split_last
    from streamseg.errors import UsageError
    from streamseg.training.data import cache_samples, phantom_samples
    from streamseg.training.loop import TrainConfig, Trainer

    height, width = parse_size(size)
    if (out / "last.pt").exists() and not resume:
        raise UsageError(f"{out} holds a run already; go on with --resume or choose another --out")
    config = TrainConfig(
        net=net,
        height=height,
        width=width,
        epochs=epochs,
        batch=batch,
        phantom_batch=phantom_batch if phantom else 0,
        learning_rate=rate,
        strength=strength,
        seed=seed,
    )
    samples, held_back = split_last(open_dataset(data), validation)
    mixed = (
        cache_samples(phantom_samples(phantom, seed=1_000_000 * (seed + 1)), config.spec) if phantom else None
    )
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        config, cache_samples(samples, config.spec), cache_samples(held_back, config.spec), mixed, out
    )
    if resume and (out / "last.pt").exists():
        trainer.load()
    elif start is not None:
        weights = read_checkpoint(start).weights
        trainer.start_from({name: torch.from_numpy(array) for name, array in weights.items()})
    trainer.run(
        lambda line: say(
            f"epoch {line['epoch']}/{epochs}  loss {line['loss']:.4f}  "
            f"Dice {line['dice']:.4f}  {line['seconds']:.0f} s"
        )
    )
    typer.echo(out / "weights.safetensors")


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HxW``. Raises UsageError."""
    from streamseg.errors import UsageError

    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError as error:
        raise UsageError(f"size {text!r} is not HxW, such as 192x224") from error
    return height, width
