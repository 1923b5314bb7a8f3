"""A U-Net for processors: an encoder of inverted residuals, pretrained on ImageNet, and a light decoder.

The encoder is EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, without squeeze-and-excitation and with
ReLU6, which quantises well; inverted residuals are those of MobileNetV2, arXiv:1801.04381).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.nets.blocks import ConvLayer, DecoderStage, NormedConv, PooledNet

STEM = 32
"""Channels of the first convolution, which halves the input's size."""
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of the encoder: blocks, kernel, stride of the first block, expansion and channels (Lite0)."""
SKIPS = (0, 1, 2, 4)
"""Stages whose output the decoder reads: the last ones at 1/2, 1/4, 1/8 and 1/16 of the input's size."""
DECODER = (160, 96, 64, 32)
"""Channels of the decoder's stages, from 1/16 to 1/2 of the input's size."""


class InvertedResidual(nn.Module):
    """Expands by a 1x1 convolution, filters each channel by a depthwise one, and projects linearly.

    The input is added where it has the output's shape.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers = [] if expansion == 1 else [NormedConv(inputs, wide)]
        layers += [
            NormedConv(wide, wide, kernel, stride=stride, groups=wide),
            NormedConv(wide, outputs, linear=True),
        ]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class LiteUNet(PooledNet):
    """Encoder of inverted residuals, decoder of four stages, a head at half the input's size, bilinear up."""

    multiple = 32
    head_channels = DECODER[-1]

    def __init__(self, outputs: int = 1, *, width: float = 1) -> None:
        super().__init__()
        stem = round(width * STEM)
        channels = [round(width * stage[-1]) for stage in STAGES]
        self.stem = NormedConv(1, stem, 3, stride=2)
        self.encoder = nn.ModuleList()
        for (blocks, kernel, stride, expansion, _), (above, here) in zip(
            STAGES, pairwise([stem, *channels]), strict=True
        ):
            first = InvertedResidual(above, here, kernel, stride, expansion)
            rest = (InvertedResidual(here, here, kernel, 1, expansion) for _ in range(blocks - 1))
            self.encoder.append(nn.Sequential(first, *rest))
        self.decoder = nn.ModuleList()
        below = channels[-1]
        for skip, full in zip(reversed(SKIPS), DECODER, strict=True):
            here = round(width * full)
            merging = ConvLayer(below + channels[skip], here, norm=True)
            self.decoder.append(DecoderStage(below, merging, ConvLayer(here, here, norm=True)))
            below = here
        self.head = nn.Conv2d(below, outputs, 1)

    def logits(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for number, stage in enumerate(self.encoder):
            x = stage(x)
            if number in SKIPS:
                skips.append(x)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return F.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)
