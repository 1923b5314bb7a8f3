"""Nets as engines run them: with a checkpoint's weights, folded, giving the probability."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from streamseg.core.errors import EngineError
from streamseg.nets import build_net, fold, width_of
from streamseg.nets.blocks import NormedConv, PooledNet
from streamseg.nets.merged_upsampling import Form, merge_upsampling

if TYPE_CHECKING:
    from streamseg.engines.checkpoint import Checkpoint


def probability(logits: Callable[[Tensor], Tensor], x: Tensor, *, mirrored: bool) -> Tensor:
    """Probabilities (N, structures, H, W) of images (N, 1, H, W), by a net's function from images to logits.

    ``mirrored``: the mean of those of the images and of their mirror images, computed in one batch.
    """
    if not mirrored:
        return torch.sigmoid(logits(x))
    both = torch.sigmoid(logits(torch.cat([x, x.flip(-1)])))
    return (both[: len(x)] + both[len(x) :].flip(-1)) / 2


class InferenceNet(nn.Module):
    """From (N, 1, H, W) to the probabilities (N, structures, H, W); H and W are multiples of
    ``net.multiple``.

    It does not branch on the size and pads nothing, so that compilers see a straight line of operators.
    """

    def __init__(self, net: PooledNet, *, mirrored: bool = False) -> None:
        """``mirrored`` as in :func:`probability`."""
        super().__init__()
        self.net = net
        self.mirrored = mirrored

    def forward(self, x: Tensor) -> Tensor:
        return probability(self.net.logits, x, mirrored=self.mirrored)


class Float16Net(nn.Module):
    """A net that computes in float16 between float32 input and output; changes the net passed to it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.half()

    def forward(self, x: Tensor) -> Tensor:
        probability: Tensor = self.net(x.half())
        return probability.float()


def inference_net(checkpoint: Checkpoint, *, light: Form | None = None) -> InferenceNet:
    """The net that engines are compiled from: float32, on the processor, eval mode, without gradients.

    ``light`` saves arithmetic in the decoders of the U-Nets (:func:`merge_upsampling`).
    Raises EngineError for weights that do not fit their net, and for an input size (the checkpoint's
    ``spec``) that is not a multiple of ``net.multiple``.
    """
    net = load_net(checkpoint)
    height, width = checkpoint.spec.height, checkpoint.spec.width
    good = [max(1, (side + net.multiple // 2) // net.multiple) * net.multiple for side in (height, width)]
    if [height, width] != good:
        raise EngineError(
            f"input {height}x{width} is not a multiple of {net.multiple}, which {checkpoint.net} pools down "
            f"by; the nearest size is {good[0]}x{good[1]}"
        )
    net = net if light is None else merge_upsampling(net, light)
    return InferenceNet(net, mirrored=checkpoint.spec.mirrored).eval().requires_grad_(False)


def load_net(checkpoint: Checkpoint, *, folding: bool = True) -> PooledNet:
    """The net of a checkpoint with its weights, giving logits: float32, eval mode, without gradients.

    ``folding`` folds an unfolded checkpoint into its inference form; False leaves it as trained.
    Raises EngineError for weights that do not fit their net.
    """
    with torch.device("meta"):  # saves the time of random weights that would be replaced
        net = _built(checkpoint)
        net = fold(net) if checkpoint.folded else net
    try:
        net.load_state_dict(_tensors(checkpoint), assign=True)
    except RuntimeError as error:
        raise _misfit(checkpoint, error) from error
    net = fold(net) if folding and not checkpoint.folded else net
    return net.eval().requires_grad_(False)


def unfolded(checkpoint: Checkpoint) -> PooledNet:
    """The net of a folded checkpoint in the form that is trained, giving the same logits up to rounding.

    Its BatchNorms multiply by one and add nothing, its shortcuts' weights are zeros: a convolution takes as
    long with these as with any others. Raises EngineError for weights that do not fit the net.
    """
    with torch.device("meta"):
        net = _built(checkpoint)
    net = net.to_empty(device="cpu").eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
            assert module.running_var is not None
            module.running_var.fill_(1 - module.eps)
        elif isinstance(module, torch.nn.Conv2d):
            module.weight.zero_()  # a shortcut's stays so
            if module.bias is not None:
                module.bias.zero_()
    moved = {  # as trained, these convolutions have no bias of their own
        f"{name}.conv.bias": f"{name}.norm.bias"
        for name, module in net.named_modules()
        if isinstance(module, NormedConv)
    }
    try:
        tensors = {moved.get(name, name): tensor for name, tensor in _tensors(checkpoint).items()}
        found = net.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise _misfit(checkpoint, error) from error
    given = set(moved.values())
    lacking = [
        name
        for name in found.missing_keys
        if name in given or ("norm" not in name and "shortcut" not in name)
    ]
    if strange := [*lacking, *found.unexpected_keys]:
        raise _misfit(checkpoint, ", ".join(strange[:3]))
    return net


def _built(checkpoint: Checkpoint) -> PooledNet:
    """A fresh net of the checkpoint's kind, width and structures."""
    return build_net(
        checkpoint.net,
        outputs=len(checkpoint.spec.structures),
        width=width_of(checkpoint.net, checkpoint.weights),
    )


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in checkpoint.weights.items()}


def _misfit(checkpoint: Checkpoint, reason: object) -> EngineError:
    return EngineError(
        f"the weights of checkpoint {checkpoint.sha256[:12]} do not fit the net {checkpoint.net!r} "
        f"({' '.join(str(reason).split())[:160]}); export them again with this version"
    )
