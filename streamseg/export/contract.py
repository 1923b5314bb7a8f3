"""The contract of an export: the request, the reporter, what builders receive and return, and the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from streamseg.core.errors import UsageError
from streamseg.core.types import Grey, Say
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.manifest import PRECISIONS, Manifest

T = TypeVar("T")

BUILDERS = {
    "openvino": "streamseg.export.builders.openvino",
    "onnx": "streamseg.export.builders.onnx",
    "tensorrt": "streamseg.export.builders.tensorrt",
    "compiled": "streamseg.export.builders.compiled",
}
"""Module of each back end's builder; its function ``build`` is a :class:`Builder`."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """The user's request for an engine."""

    source: str
    """A net's name, a checkpoint, or a run folder."""
    backend: str
    precision: str
    size: tuple[int, int] | None = None
    """Height and width of the input; None is the weights' own."""
    batch: int = 1
    data: Path | None = None
    """Labelled images to calibrate and judge on; None is phantoms."""
    recipe: Path | None = None
    better: bool = False
    """Take the next better precision if the gate refuses this one."""
    force: bool = False
    """Build even if the store has this engine already."""
    mirror: bool | None = None
    """Whether the engine averages in the mirrored image; None is as the weights say."""

    def check(self) -> None:
        """Raise UsageError for values that no builder knows."""
        if self.backend not in BUILDERS:
            raise UsageError(f"no engine is built for {self.backend!r}; choose one of {', '.join(BUILDERS)}")
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"no precision is called {self.precision!r}; choose one of {', '.join(PRECISIONS)}"
            )
        if not 1 <= self.batch <= 1024:
            raise UsageError(f"a batch has 1 to 1024 frames, received {self.batch}")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The engine that an export built or found."""

    folder: Path
    manifest: Manifest
    fresh: bool
    """False if the store had this engine already."""


class Reporter(Protocol):
    """Receives the progress of an export."""

    def say(self, line: str) -> None: ...
    def track(self, what: str, items: Sequence[T]) -> Iterable[T]: ...


@dataclass(frozen=True, slots=True)
class LineReporter:
    """A reporter that only writes lines."""

    line: Say

    def say(self, line: str) -> None:
        self.line(line)

    def track(self, what: str, items: Sequence[T]) -> Iterable[T]:
        self.line(f"{what}: {len(items)} frames")
        return items


@dataclass(frozen=True, slots=True, repr=False)
class BuildOrder:
    """Input of a builder."""

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
    say: Say = field(default=lambda _: None)
    """Receives a line for each step."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Output of a builder, besides the files."""

    versions: Mapping[str, str]
    """Of the packages that built the engine and that will run it."""
    scales: Mapping[str, Any] = field(default_factory=dict)
    """INT8: the activations' ranges by layer, for ``calibration/``; else empty."""


class Builder(Protocol):
    """Writes an engine's files into an empty folder.

    Deterministic as far as the compiler is: the same order gives the same files. Raises EngineError if the
    net, the precision or this machine does not allow it, and MissingExtra.
    """

    def __call__(self, order: BuildOrder, folder: Path) -> BuildResult: ...
