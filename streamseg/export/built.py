"""What builders of engines are given and hand over; one builder per back end, named in :data:`BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamseg.core.types import Grey
from streamseg.engines.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """What is to be built."""

    checkpoint: Checkpoint
    """Folded; its spec has the input size that the engine is to have."""
    precision: str
    """fp32, fp16, bf16 or int8."""
    batch: int = 1
    """Frames per call."""
    images: Sequence[Grey] = ()
    """INT8: images, each uint8 (H, W), that the activations' ranges are measured on; else empty."""
    preset: str = "mixed"
    """INT8: ``performance`` (symmetric) or ``mixed`` (asymmetric activations)."""
    say: Callable[[str], None] = field(default=lambda _: None)
    """Told about each step, one line."""


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build."""

    versions: Mapping[str, str]
    """Of the packages that took part and that will run it."""
    scales: Mapping[str, Any] = field(default_factory=dict)
    """INT8: the activations' ranges by layer, for ``calibration/``; else empty."""


class Builder(Protocol):
    """Writes an engine's files into an empty folder.

    Deterministic as far as the compiler is: the same order gives the same files. Raises EngineError where the
    net, the precision or this machine does not allow it, and MissingExtra.
    """

    def __call__(self, order: Order, folder: Path) -> Built: ...


BUILDERS = {
    "openvino": "streamseg.export.builders.openvino",
    "onnx": "streamseg.export.builders.onnx",
    "tensorrt": "streamseg.export.builders.tensorrt",
    "compiled": "streamseg.export.builders.compiled",
}
"""Module of each back end's builder, which is its function ``build``."""
