"""Loads the engine of a command, and builds it again if it does not fit this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streamseg.cli.console import say

if TYPE_CHECKING:
    from streamseg.core.errors import EngineMisfit
    from streamseg.core.types import Backend


def load_engine(engine: str | None, *, throughput: bool = False, threads: int | None = None) -> Backend:
    """The engine of ``--engine``, or the default one, whose name is then printed.

    An engine that was built for another machine, or by other versions, is built again into the store. Raises
    what :func:`streamseg.backends.load_backend` raises, EngineError if that build fails, and UsageError for
    an engine that takes several frames at a time.
    """
    from streamseg.backends import DEFAULT, load_backend
    from streamseg.core.engine_info import EngineInfo
    from streamseg.core.errors import EngineMisfit, UsageError

    try:
        backend = load_backend(engine, throughput=throughput, threads=threads, say=say)
    except EngineMisfit as misfit:
        backend = _built_again(str(engine), misfit, throughput, threads)
    info = EngineInfo.of(backend)
    if info.batch != 1:
        backend.close()
        raise UsageError(
            f"engine {info.name} takes {info.batch} frames at a time, which serves to measure throughput; "
            "give one that was exported with --batch 1"
        )
    named = Path(engine or DEFAULT)
    if info.name not in (named.name, named.stem):
        say(f"engine: {info.name} ({info.precision or ''}, input {info.spec.height}x{info.spec.width})")
    return backend


def _built_again(engine: str, misfit: EngineMisfit, throughput: bool, threads: int | None) -> Backend:
    """Build the engine for this machine. Raises EngineError with the misfit and the reason of the failure."""
    from streamseg.backends.loading import load_folder, locate
    from streamseg.core.errors import EngineError, StreamsegError, one_line
    from streamseg.engines.manifest import read_unchecked
    from streamseg.engines.store import EngineStore

    manifest = read_unchecked(locate(engine)).manifest
    say(f"building {manifest.name} for this machine: {'; '.join(misfit.reasons)}")
    try:
        from streamseg.export.build import rebuild

        folder = rebuild(manifest, EngineStore(), say=say)
    except (StreamsegError, ImportError) as error:
        raise EngineError(f"{misfit}; building it failed: {one_line(error)}") from error
    return load_folder(folder, throughput=throughput, threads=threads, say=say)
