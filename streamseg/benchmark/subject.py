"""What a benchmark measures: a net at one size, run by something, in one precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamseg.core.types import Backend

EAGER = "eager"
"""Back end of the variant that all others are compared with: torch as the paper's net was trained."""


@dataclass(frozen=True, slots=True)
class Point:
    """One net at one input size and batch: what is compared shares it."""

    net: str
    height: int
    width: int
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.net} {self.height}x{self.width} b{self.batch}"


@dataclass(frozen=True, slots=True, repr=False)
class Subject:
    """A way to run a point's net, loaded and ready."""

    point: Point
    backend: str
    """``eager``, ``openvino``, ``onnx``, ``tensorrt``, ``compiled``."""
    precision: str
    """What was asked for: fp32, fp16, bf16 or int8."""
    engine: Backend
    """Takes (batch, 1, height, width), gives (height, width) or, for a batch, (batch, height, width)."""
    precision_found: Mapping[str, float]
    """Share of its layers by the type that they compute in, read off the loaded engine."""
    folded: bool
    trained: bool
    origin: str
    """``shipped``, ``store``, ``built`` (in this run), or ``torch``."""
    model_bytes: int
    build_s: float | None = None
    """Seconds that building took, where it was built in this run."""
    child: Mapping[str, Any] = field(default_factory=dict)
    """How a process of its own makes the same; empty where none can."""

    @property
    def key(self) -> str:
        """Unique within a run: ``improved_unet openvino int8 192x224 b1``."""
        return subject_key(self.point, self.backend, self.precision, folded=self.folded)


def subject_key(point: Point, backend: str, precision: str, *, folded: bool) -> str:
    """What a way to run a point's net is called in results: ``improved_unet openvino int8 192x224 b1``."""
    form = "" if folded else " as trained"
    return f"{point.net} {backend} {precision}{form} {point.height}x{point.width} b{point.batch}"
