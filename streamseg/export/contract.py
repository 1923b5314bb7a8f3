"""What is asked of an export, what is told on the way, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from streamseg.core.errors import UsageError
from streamseg.engines.manifest import PRECISIONS, Manifest
from streamseg.export.built import BUILDERS

T = TypeVar("T")


class Reporter(Protocol):
    """Told how a build comes along."""

    def say(self, line: str) -> None: ...
    def track(self, what: str, items: Sequence[T]) -> Iterable[T]: ...


@dataclass(frozen=True, slots=True)
class Lines:
    """A reporter that only says lines."""

    line: Callable[[str], None]

    def say(self, line: str) -> None:
        self.line(line)

    def track(self, what: str, items: Sequence[T]) -> Iterable[T]:
        self.line(f"{what}: {len(items)} frames")
        return items


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for."""

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
    """Take the next better precision where the gate refuses this one."""
    force: bool = False
    """Build also where the store has such an engine."""

    def check(self) -> None:
        """Raise UsageError for what no builder knows."""
        if self.backend not in BUILDERS:
            raise UsageError(f"no engine is built for {self.backend!r}; choose one of {', '.join(BUILDERS)}")
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"no precision is called {self.precision!r}; choose one of {', '.join(PRECISIONS)}"
            )
        if not 1 <= self.batch <= 1024:
            raise UsageError(f"a batch has 1 to 1024 frames, received {self.batch}")


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of a request."""

    folder: Path
    manifest: Manifest
    fresh: bool
    """False where the store had this engine already."""
