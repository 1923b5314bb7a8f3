"""Parts that other installed packages add: sources, sinks, back ends, displays.

A package declares them as entry points, whose names are what users type:

- ``streamseg.sources``: a scheme. ``NAME:...`` and ``NAME://...`` are opened by ``part(uri)``, a
  :class:`~streamseg.core.types.Source`. If what is declared has the attribute ``live``, and it is true, the
  source is one that may vanish and come back.
- ``streamseg.sinks``: the suffix of a file of records, without its dot. ``part(path, info, header=...,
  force=...)`` is a :class:`~streamseg.core.types.Sink`.
- ``streamseg.backends``: the ``backend`` in the manifests of engine folders. ``part(folder, manifest,
  fingerprint, threads=..., throughput=...)`` is a :class:`~streamseg.core.types.Backend`.
- ``streamseg.displays``: what ``--display`` takes. ``part(title=...)`` is a
  :class:`~streamseg.core.view.Display`.

Our own parts come first, so that none can be replaced. A part is imported when it is used, and not before;
whatever goes wrong with it then is one line that names its package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Self, TypeVar

from streamseg.core.errors import (
    EngineError,
    SinkError,
    SourceError,
    StreamsegError,
    UsageError,
    first_line,
)
from streamseg.core.types import Backend, Frame, Result, Sink, Source, SourceInfo
from streamseg.core.view import Command, Display, View

KINDS: dict[str, tuple[type, type[StreamsegError]]] = {
    "sources": (Source, SourceError),
    "sinks": (Sink, SinkError),
    "backends": (Backend, EngineError),
    "displays": (Display, SinkError),
}
"""What a part must give, and the error for what goes wrong with it."""
OWN_SCHEMES = {"phantom", "v4l2", "rtsp", "rtsps", "igtl"}
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]+):", re.IGNORECASE)
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """A part that another package declares."""

    kind: str
    """``sources``, ``sinks``, ``backends`` or ``displays``."""
    name: str
    points: tuple[EntryPoint, ...]
    """More than one if several packages declare it: then it cannot be used."""

    def __str__(self) -> str:
        packages = ", ".join(sorted({point.dist.name if point.dist else "?" for point in self.points}))
        return f"{self.kind[:-1]} {self.name} of {packages}"

    @cached_property
    def part(self) -> Callable[..., Any]:
        """What is declared, imported. Raises UsageError."""
        if len(self.points) > 1:
            raise UsageError(f"{self}: several packages declare it; uninstall all but one")
        try:
            found = self.points[0].load()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise UsageError(
                f"{self} cannot be imported: {type(error).__name__}: {first_line(error)}; "
                "update or uninstall that package"
            ) from error
        if not callable(found):
            raise UsageError(f"{self} is a {type(found).__name__}, which cannot be called; see its package")
        return found  # type: ignore[no-any-return]

    @property
    def live(self) -> bool:
        """Whether it is a source that may vanish and come back; False for one that cannot be imported."""
        try:
            return bool(getattr(self.part, "live", False))
        except UsageError:
            return False

    def make(self, *arguments: Any, **options: Any) -> Any:
        """Call the part. Raises StreamsegError: its own, or one for whatever else it raised."""
        part = self.part
        with self.translated():
            made = part(*arguments, **options)
        expected = KINDS[self.kind][0]
        if not isinstance(made, expected):
            raise UsageError(f"{self} gave a {type(made).__name__}, which is no {expected.__name__}")
        wrapper = _WRAPPERS.get(self.kind)
        return made if wrapper is None else wrapper(self, made)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn an exception of the plug-in into one of ours, on one line."""
        try:
            yield
        except StreamsegError:
            raise
        except Exception as error:
            what = f"{self} failed: {type(error).__name__}: {first_line(error)}"
            raise KINDS[self.kind][1](what) from error


def plugins(kind: str) -> dict[str, Plugin]:
    """All parts of a kind by name, in alphabetical order. Imports none of them."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"streamseg.{kind}"):
        found.setdefault(point.name.lower(), []).append(point)
    return {name: Plugin(kind, name, tuple(found[name])) for name in sorted(found)}


def source_plugin(uri: str) -> Plugin | None:
    """The plug-in whose scheme an address begins with."""
    found = _SCHEME.match(uri)
    scheme = "" if found is None else found[1].lower()
    return plugins("sources").get(scheme) if scheme and scheme not in OWN_SCHEMES else None


class _PluginSource:
    """A source of a plug-in, with its exceptions translated."""

    def __init__(self, plugin: Plugin, source: Source) -> None:
        self._plugin, self._source = plugin, source
        self.live = source.live

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def clock_note(self) -> str:
        return str(getattr(self._source, "clock_note", ""))

    def __iter__(self) -> Iterator[Frame]:
        with self._plugin.translated():
            yield from self._source

    def close(self) -> None:
        with self._plugin.translated():
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _PluginSink:
    """A sink of a plug-in, with its exceptions translated."""

    def __init__(self, plugin: Plugin, sink: Sink) -> None:
        self._plugin, self._sink = plugin, sink

    def write(self, result: Result) -> None:
        with self._plugin.translated():
            self._sink.write(result)

    def close(self) -> None:
        with self._plugin.translated():
            self._sink.close()


class _PluginDisplay:
    """A display of a plug-in, with its exceptions translated."""

    def __init__(self, plugin: Plugin, display: Display) -> None:
        self._plugin, self._display = plugin, display
        self.name = plugin.name

    def show(self, view: View) -> None:
        with self._plugin.translated():
            self._display.show(view)

    def poll(self) -> list[Command]:
        with self._plugin.translated():
            return self._display.poll()

    def close(self) -> None:
        with self._plugin.translated():
            self._display.close()


_WRAPPERS: dict[str, Callable[[Plugin, Any], Any]] = {
    "sources": _PluginSource,
    "sinks": _PluginSink,
    "displays": _PluginDisplay,
}
