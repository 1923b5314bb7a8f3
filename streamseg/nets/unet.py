"""U-Net and the improved U-Net: the same wiring with two kinds of stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.nets.blocks import ConvLayer, DecoderStage, PooledNet, ShortcutLayer

CHANNELS = (32, 64, 128, 256, 512)
"""Of the stages from the top to the bottom, at width 1."""

Stage = Callable[[int, int], nn.Sequential]


class EncoderDecoder(PooledNet):
    """Five encoder stages, four decoder stages, two layers each, and a 1x1 head."""

    multiple = 16
    head_channels = CHANNELS[0]

    def __init__(self, stage: Stage, bottom: Stage, outputs: int = 1, width: float = 1) -> None:
        super().__init__()
        channels = [round(width * count) for count in CHANNELS]
        self.encoder = nn.ModuleList(stage(above, here) for above, here in pairwise([1, *channels[:-1]]))
        self.bottom = bottom(channels[-2], channels[-1])
        self.decoder = nn.ModuleList(
            DecoderStage(below, *stage(below + beside, beside)) for below, beside in pairwise(channels[::-1])
        )
        self.head = nn.Conv2d(channels[0], outputs, 1)

    def logits(self, x: Tensor) -> Tensor:
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        head: Tensor = self.head(x)
        return head


def _plain(inputs: int, outputs: int, *, norm_last: bool = False) -> nn.Sequential:
    return nn.Sequential(ConvLayer(inputs, outputs, norm=False), ConvLayer(outputs, outputs, norm=norm_last))


def _with_shortcut(inputs: int, outputs: int, *, b: float) -> nn.Sequential:
    return nn.Sequential(ConvLayer(inputs, outputs, norm=True), ShortcutLayer(outputs, b=b))


class UNet(EncoderDecoder):
    """The paper's U-Net: a single normalisation, after the last convolution of the bottom stage."""

    def __init__(self, outputs: int = 1, *, width: float = 1) -> None:
        super().__init__(_plain, partial(_plain, norm_last=True), outputs, width)


class ImprovedUNet(EncoderDecoder):
    """The paper's improved U-Net: batch normalisation everywhere, a shortcut with factor ``b`` per stage."""

    def __init__(self, outputs: int = 1, *, width: float = 1, b: float = 1.0) -> None:
        stage = partial(_with_shortcut, b=b)
        super().__init__(stage, stage, outputs, width)
