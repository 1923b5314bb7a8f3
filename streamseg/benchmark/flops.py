"""The arithmetic and the parameters of a net, counted by torch's FLOP counter. Needs torch.

The net runs on torch's ``meta`` device, which computes only shapes: no size takes time or memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamseg.core.errors import MissingExtra

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a net takes at least."""

    flop: int
    """Operations of all convolutions, 2 per multiply-add; zeros of the padding count."""
    parameters: int
    """Number of weights and biases."""


def work_of(net: str, height: int, width: int, *, batch: int = 1, folded: bool = True) -> Work:
    """The work of one call of a net on an input (batch, 1, height, width).

    ``folded`` is the inference form; otherwise the net as trained, whose BatchNorms count neither as
    arithmetic nor, by their statistics, as parameters. Raises UsageError for an unknown net, ValueError for a
    size that is too small, MissingExtra without torch.
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


def work_of_module(model: torch.nn.Module, frame: torch.Tensor) -> Work:
    """The work of a torch module on an input, both on one device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(frame)
    return Work(counter.get_total_flops(), sum(p.numel() for p in model.parameters()))
