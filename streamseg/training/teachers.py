"""Teachers: trained nets whose mean probability is a target beside the labels (arXiv:1503.02531)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import Checkpoint
from streamseg.nets.inference import load_net, probability
from streamseg.training.cache import Cache
from streamseg.training.validate import BATCH, net_input


class Teachers:
    """An ensemble of nets of any kind, each at the image size that it was trained at."""

    def __init__(self, checkpoints: Sequence[Checkpoint], device: torch.device | str) -> None:
        """At least one. Raises EngineError for weights that do not fit their net."""
        self.names = ",".join(checkpoint.sha256 for checkpoint in checkpoints)
        self.device = torch.device(device)
        self._nets = [
            (
                load_net(checkpoint).to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
                checkpoint.spec,
            )
            for checkpoint in checkpoints
        ]

    @property
    def planes(self) -> int:
        """Structures that all teachers outline, nerve first."""
        return min(len(spec.structures) for _, spec in self._nets)

    def large(self, spec: InputSpec) -> InputSpec:
        """``spec`` enlarged to what the largest teacher sees, with its aspect ratio, if that is larger."""
        sizes = [_fitted(spec.height, spec.width, teacher) for _, teacher in self._nets]
        height, width = max((spec.height, spec.width), *sizes)
        return replace(spec, height=height, width=width)

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, mirrored: bool = False) -> Tensor:
        """Mean probability (N, planes, H, W) for images (N, 1, H, W) in 0..1.

        The planes are those that all teachers have. An image is scaled to fit into the teacher's own input:
        teachers find less in structures that are larger than those they learnt from. ``mirrored`` averages
        the mirrored image in, at twice the cost.
        """
        height, width = images.shape[-2:]
        found = []
        for net, spec in self._nets:
            x = net_input(_resized(images, _fitted(height, width, spec)), spec)
            planes = probability(_float32_logits(net), x, mirrored=mirrored)
            found.append(_resized(planes, (height, width)))
        return torch.stack([planes[:, : self.planes] for planes in found]).mean(0)

    def targets(self, images: Tensor, size: tuple[int, int], planes: int) -> Tensor:
        """Probabilities in 255ths, uint8 (N, planes, *size), for images uint8 (N, 1, H, W), mirrored ones
        averaged in; computed once for a data set, in the order of its images."""
        found = []
        for part in torch.split(images, BATCH):
            x = torch.from_numpy(part.numpy().astype(np.float32) / 255).to(self.device)
            soft = _resized(self.probabilities(x, mirrored=True)[:, :planes], size)
            found.append((soft * 255).round().to(torch.uint8).cpu())
        return torch.cat(found)


def _float32_logits(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """The net, whose logits keep their precision under autocast."""
    return lambda x: net(x).float()


@dataclass(frozen=True)
class TaughtCache(Cache):
    """A cache whose labels are followed by the teachers' targets, 0..255."""

    planes: int = 1
    """Of the targets."""
    targets: Tensor | None = None
    """uint8 (N, planes, H, W); None if the labels are the targets, too."""

    @classmethod
    def of(cls, cache: Cache, planes: int, targets: Tensor | None) -> TaughtCache:
        """A cache with targets."""
        own = {field.name: getattr(cache, field.name) for field in fields(cache)}
        return cls(**own, planes=planes, targets=targets)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As of :class:`Cache`; the labels are (N, 2 + planes, H, W)."""
        images, labels, known = super().gather(rows)
        targets = labels[:, : self.planes] * 255 if self.targets is None else self.targets[rows]
        return images, torch.cat([labels, targets], 1), known


def _fitted(height: int, width: int, spec: InputSpec) -> tuple[int, int]:
    """The largest height and width, with the same aspect ratio, that fit into a net's input."""
    scale = min(spec.height / height, spec.width / width)
    return round(height * scale), round(width * scale)


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean over areas where it becomes smaller, else bilinear."""
    height, width = planes.shape[-2:]
    if (height, width) == size:
        return planes
    if size[0] < height and size[1] < width:
        return F.interpolate(planes, size=size, mode="area")
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
