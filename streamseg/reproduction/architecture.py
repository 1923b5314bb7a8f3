"""The nets' layers, read from the built nets: the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from streamseg.nets import build_net, count_parameters
from streamseg.nets.blocks import DecoderStage

SIDE = 64
"""Side of the input sent through; it has a shape but no values."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Some layers at one resolution."""

    part: str
    """``encoder``, ``decoder`` or ``head``; the bottom belongs to the encoder."""
    scale: int
    """Factor by which its resolution is lower than the input's."""
    text: str
    """Such as ``up+merge, 2 x conv3-256``."""
    normalisations: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """A net's stages in order, and its parameters as the paper's Table 3 counts them."""

    stages: tuple[Stage, ...]
    parameters: int


def read_architecture(name: str) -> Architecture:
    """Send an input without values through a freshly built net and record its layers; nothing is computed."""
    with torch.device("meta"):
        net = build_net(name).eval()
        heights: dict[str, int] = {}
        for path, module in net.named_modules():
            if isinstance(module, nn.Sequential) or path == "head":
                module.register_forward_hook(_noting(heights, path))
        net(torch.zeros(1, 1, SIDE, SIDE))
    stages = []
    for path, height in heights.items():
        part = path.split(".", maxsplit=1)[0]
        modules = net.get_submodule(path)
        up = ("up+merge, " if isinstance(modules, DecoderStage) else "up, ") if part == "decoder" else ""
        stages.append(
            Stage(
                "encoder" if part == "bottom" else part,
                SIDE // height,
                up + _layers(modules),
                sum(isinstance(module, nn.BatchNorm2d) for module in modules.modules()),
            )
        )
    return Architecture(tuple(stages), count_parameters(net))


@cache
def step_gflop(name: str, height: int, width: int, batch: int) -> float:
    """Arithmetic of a training step (forwards and back), 10^9 operations: those of the convolutions, 2 for a
    multiply-add. Counted on torch's meta device, so that no size takes time or memory."""
    with torch.device("meta"):
        net = build_net(name)
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(batch, 1, height, width)).sum().backward()
    return float(counter.get_total_flops()) / 1e9


def _noting(heights: dict[str, int], path: str) -> Any:
    def hook(_: nn.Module, __: tuple[Tensor, ...], made: Tensor) -> None:
        heights[path] = made.shape[2]

    return hook


def _layers(stage: nn.Module) -> str:
    """``2 x conv3-32 + shortcut-32``: main convolutions in order, then the shortcuts."""
    convs = [(path, conv) for path, conv in stage.named_modules() if isinstance(conv, nn.Conv2d)]
    main = [
        f"conv{conv.kernel_size[0]}-{conv.out_channels}" for path, conv in convs if "shortcut" not in path
    ]
    beside = [f"shortcut-{conv.out_channels}" for path, conv in convs if "shortcut" in path]
    runs = [(text, len(list(same))) for text, same in groupby(main)]
    return " + ".join([text if count == 1 else f"{count} x {text}" for text, count in runs] + beside)
