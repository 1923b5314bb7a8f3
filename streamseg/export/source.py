"""Resolves NET_OR_CHECKPOINT of the export to the folded weights that an engine is built from."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamseg.backends.loading import WEIGHTS
from streamseg.core.errors import MissingExtra, UsageError
from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import MULTIPLES, NETS, Checkpoint, read_checkpoint, write_checkpoint

SEED = 0
"""Seed of the random weights of nets without shipped ones."""
DEFAULT_SIZE = (192, 224)
"""Default height and width of nets without shipped weights."""


def resolve(source: str, size: tuple[int, int] | None = None) -> Checkpoint:
    """The folded checkpoint of a net's name or a checkpoint's path, at an input size (height, width).

    A net's name means its shipped weights; a net without any gets seeded random ones, marked as not trained.
    A path is a ``.safetensors`` file or a run folder that holds ``weights.safetensors``. The hash stays that
    of the file. At another size than the weights' own the output calibration is dropped, because it was
    measured at that size. Raises UsageError, EngineError, MissingExtra.
    """
    shipped = WEIGHTS / f"{source}.safetensors"
    if source in NETS:
        found = read_checkpoint(shipped) if shipped.is_file() else _random(source, size or DEFAULT_SIZE)
    else:
        found = read_weights(Path(source))
    spec = found.spec
    height, width = size or (spec.height, spec.width)
    _check_size(found.net, height, width)
    found = replace(found, spec=spec.resized(height, width))
    return found if found.folded else _folded(found)


def is_shipped(source: str) -> bool:
    """Whether a source is the name of a net that weights are shipped for."""
    return source in NETS and (WEIGHTS / f"{source}.safetensors").is_file()


def read_weights(source: Path) -> Checkpoint:
    """The checkpoint of a ``.safetensors`` file or a run folder, as it is. Raises UsageError, EngineError."""
    path = source / "weights.safetensors" if source.is_dir() else source
    if path.suffix != ".safetensors" or not path.is_file():
        raise UsageError(
            f"{str(source)!r} is neither a net ({', '.join(NETS)}) nor a .safetensors checkpoint nor a run "
            "folder"
        )
    return read_checkpoint(path)


def _check_size(net: str, height: int, width: int) -> None:
    step = MULTIPLES[net]
    good = [max(step, -(-side // step) * step) for side in (height, width)]
    if good != [height, width]:
        raise UsageError(
            f"{net} takes inputs whose sides are multiples of {step}, received {height}x{width}; "
            f"use {good[0]}x{good[1]}"
        )


def _folded(checkpoint: Checkpoint) -> Checkpoint:
    from streamseg.nets.inference import load_net

    state = load_net(checkpoint).state_dict()
    return replace(
        checkpoint,
        folded=True,
        weights={name: np.asarray(array.numpy(), np.float32) for name, array in state.items()},
    )


def _random(net: str, size: tuple[int, int]) -> Checkpoint:
    """Seeded weights that keep the activations' size from layer to layer (He et al. 2015, eq. 10)."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(f"{net}, for which no weights are shipped,", "torch", "export") from error
    from streamseg.nets import build_net, fold

    _check_size(net, *size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = build_net(net).eval()
        for name, weight in fresh.named_parameters():
            if weight.ndim == 4:
                torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
                if net == "segnet" and name.startswith("decoder") and ".0.conv." in name:
                    weight.data *= 2  # it reads un-pooled features, of which three in four are zero
        weights = {name: array.numpy() for name, array in fold(fresh).state_dict().items()}
    spec = InputSpec(*size, mean=0.25, std=0.25, threshold=0.5)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.safetensors"
        write_checkpoint(path, weights, net=net, folded=True, trained=False, spec=spec)
        return read_checkpoint(path)
