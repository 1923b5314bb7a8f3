"""Teachers: trained nets whose mean probability is a target beside the labels (arXiv:1503.02531)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from streamseg.engines.checkpoint import Checkpoint
from streamseg.nets.inference import load_net
from streamseg.training.validate import net_input


class Teachers:
    """An ensemble of nets of any kind, each at the image size that it was trained at."""

    def __init__(self, checkpoints: Sequence[Checkpoint], device: torch.device | str) -> None:
        """At least one. Raises EngineError for weights that do not fit their net."""
        self.names = ",".join(checkpoint.sha256 for checkpoint in checkpoints)
        self._nets = [
            (
                load_net(checkpoint).to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
                checkpoint.spec,
            )
            for checkpoint in checkpoints
        ]

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Mean probability (N, planes, H, W) for images (N, 1, H, W) in 0..1, the mirrored image averaged in.

        The planes are those that all teachers have. An image is scaled, with its aspect ratio, to the area of
        the teacher's own input.
        """
        height, width = images.shape[-2:]
        found = []
        for net, spec in self._nets:
            scale = math.sqrt(spec.height * spec.width / (height * width))
            size = round(height * scale), round(width * scale)
            x = images if size == (height, width) else _resized(images, size)
            x = net_input(x, spec)
            planes = (net(x).float().sigmoid() + net(x.flip(-1)).float().sigmoid().flip(-1)) / 2
            found.append(_resized(planes, (height, width)))
        common = min(planes.shape[1] for planes in found)
        return torch.stack([planes[:, :common] for planes in found]).mean(0)


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
