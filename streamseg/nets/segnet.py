"""SegNet, with its pooling memory written as comparisons that every compiler accepts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.nets.blocks import ConvLayer, PooledNet

ENCODER = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels at width 1, layers) of the encoder's stages."""
DECODER = ((512, 3), (512, 3), (256, 3), (128, 2), (64, 2))
"""(channels at width 1, layers) of the decoder's stages; the first layer of a stage changes the channels."""


def pool_with_memory(x: Tensor) -> tuple[Tensor, Tensor]:
    """2x2 max-pooling and the place of each maximum.

    ``x`` (N, C, H, W), H and W even. Returns the maxima (N, C, H/2, W/2) and four planes of 0/1 in
    the order top-left, top-right, bottom-left, bottom-right, (N, 4, C, H/2, W/2) in x's type. The first
    maximum wins a tie, as in ``max_pool2d(return_indices=True)``.
    """
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    peak = F.max_pool2d(x, 2)
    at_a = a >= peak
    at_b = ~at_a & (b >= peak)
    at_c = ~at_a & ~at_b & (c >= peak)
    at_d = ~(at_a | at_b | at_c) & (d >= peak)
    return peak, torch.stack((at_a, at_b, at_c, at_d), dim=1).to(x.dtype)


def unpool(x: Tensor, memory: Tensor) -> Tensor:
    """Put features (N, K*C, H, W) at the places of the maxima, zeros elsewhere. Returns (N, K*C, 2H, 2W).

    ``memory`` is (N, 4, C, H, W) from :func:`pool_with_memory`; each of its planes serves K
    neighbouring channels of ``x`` (the decoder carries K = 2 times the encoder's channels at three levels).
    """
    repeat = x.shape[1] // memory.shape[2]
    if repeat > 1:
        memory = memory.repeat_interleave(repeat, dim=2)
    spread = x.unsqueeze(2) * memory.transpose(1, 2)  # (N, channels, 4, H, W)
    return F.pixel_shuffle(spread.flatten(1, 2), 2)


def _stage(inputs: int, channels: int, layers: int) -> nn.Sequential:
    return nn.Sequential(
        *(ConvLayer(inputs if layer == 0 else channels, channels, norm=True) for layer in range(layers))
    )


class SegNet(PooledNet):
    """The paper's SegNet: 26 convolutions, each batch-normalised; un-pooling by the encoder's memory."""

    multiple = 32
    head_channels = DECODER[-1][0]

    def __init__(self, outputs: int = 1, *, width: float = 1) -> None:
        super().__init__()
        channels = 1
        stages = []
        for full, layers in (*ENCODER, *DECODER):
            stages.append(_stage(channels, round(width * full), layers))
            channels = round(width * full)
        self.encoder = nn.ModuleList(stages[: len(ENCODER)])
        self.decoder = nn.ModuleList(stages[len(ENCODER) :])
        self.head = nn.Conv2d(channels, outputs, 1)

    def logits(self, x: Tensor) -> Tensor:
        memories = []
        for stage in self.encoder:
            x, memory = pool_with_memory(stage(x))
            memories.append(memory)
        for stage in self.decoder:
            x = stage(unpool(x, memories.pop()))
        head: Tensor = self.head(x)
        return head
