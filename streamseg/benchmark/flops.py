"""The work of a net: arithmetic, weights and data moved, read off the net itself. Needs torch.

The net runs on torch's ``meta`` device, which computes shapes and nothing else, so that any size takes no
time and no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from streamseg.core.errors import MissingExtra


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a net takes at least."""

    flop: int
    """Of all convolutions, 2 per multiply-add; the padding's zeros count as work."""
    parameters: int
    """Numbers in weights and biases."""
    activations: int
    """Numbers read and written by the convolutions, each input and each output once. What lies between them
    (pooling, up-sampling, merging) is not counted: compilers fuse it, more or less."""

    def bytes(self, parameter_bytes: int = 4, activation_bytes: int = 4) -> int:
        """Bytes moved, weights once and activations once, in types of so many bytes."""
        return self.parameters * parameter_bytes + self.activations * activation_bytes


def work_of(net: str, height: int, width: int, *, batch: int = 1, folded: bool = True) -> Work:
    """The work of one call of a net of the paper on (batch, 1, height, width).

    ``folded`` is the inference form; otherwise as trained, where BatchNorm's arithmetic is not counted and
    its statistics are not among the parameters. Raises UsageError for an unknown net, ValueError for a size
    that is too small, MissingExtra without torch.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("counting a net's work", "torch", "train") from error
    from streamseg.nets import build_net, fold

    with torch.device("meta"):
        model = build_net(net).eval()
        model = fold(model) if folded else model
        frame = torch.empty(batch, 1, height, width)
    return work_of_module(model, frame)


def work_of_module(model: Any, frame: Any) -> Work:
    """The work of a torch module on an input, both on one device: convolutions, transposed ones included."""
    import torch

    found, kinds = [0, 0], (torch.nn.Conv2d, torch.nn.ConvTranspose2d)

    def count(conv: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(conv, kinds)
        if isinstance(conv, torch.nn.ConvTranspose2d):  # each number of the input goes to so many outputs
            taps, numbers = conv.out_channels // conv.groups, inputs[0].numel()
        else:
            taps, numbers = conv.in_channels // conv.groups, output.numel()
        found[0] += 2 * prod(conv.kernel_size) * taps * numbers
        found[1] += inputs[0].numel() + output.numel()

    convolutions = [module for module in model.modules() if isinstance(module, kinds)]
    hooks = [conv.register_forward_hook(count) for conv in convolutions]
    try:
        with torch.no_grad():
            model(frame)
    finally:
        for hook in hooks:
            hook.remove()
    return Work(found[0], sum(p.numel() for p in model.parameters()), found[1])
