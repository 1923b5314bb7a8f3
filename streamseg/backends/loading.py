"""Finds an engine by name or path, and loads it with its back end."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

from streamseg.core.errors import EngineError, EngineMisfit, StreamsegError, UsageError
from streamseg.core.plugins import plugins
from streamseg.core.types import Backend, Say
from streamseg.engines.checkpoint import NETS, Checkpoint, read_checkpoint
from streamseg.engines.compatibility import export_command, incompatibilities
from streamseg.engines.manifest import FILE_NAME, Manifest, ReadManifest, altered, read_unchecked
from streamseg.engines.selection import candidates
from streamseg.engines.store import EngineStore

DEFAULT_NET = "lite_unet"
"""The net of the default engine: the one place that names it. Its engine and those of other shipped nets lie
side by side in WEIGHTS; :mod:`streamseg.export.choose_default` has the rule."""
DEFAULT = f"{DEFAULT_NET}-openvino-int8"
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Folder of the weights and engines that ship with the package."""
BACKENDS = ("openvino", "eager")
"""Back ends that run a checkpoint directly."""
RUNNERS = {
    "openvino": "streamseg.backends.openvino.backend",
    "onnx": "streamseg.backends.onnx",
    "tensorrt": "streamseg.backends.tensorrt.backend",
    "compiled": "streamseg.backends.compiled",
}
"""Module of each back end that runs engine folders; its function ``load`` is a :class:`Loader`."""


class Loader(Protocol):
    """Loads an engine folder whose manifest is intact and fits this machine.

    It hashes every file before anything parses it. Raises EngineError, MissingExtra.
    """

    def __call__(
        self,
        folder: Path,
        manifest: Manifest,
        fingerprint: str,
        *,
        threads: int | None = None,
        throughput: bool = False,
    ) -> Backend: ...


def shipped_nets() -> list[str]:
    """The nets that weights are shipped for, the default engine's first."""
    return [DEFAULT_NET, *(net for net in NETS if net != DEFAULT_NET and weights_file(net).is_file())]


def weights_file(net: str) -> Path:
    """The checkpoint of a net's shipped weights, if there are any."""
    return WEIGHTS / f"{net}.safetensors"


def shipped_engine(net: str) -> Path:
    """The folder of the INT8 engine of a net's shipped weights, if any; it has the engine's name."""
    return WEIGHTS / f"{net}-openvino-int8"


def shipped_engines() -> list[Path]:
    """Folders of the INT8 engines that ship, the default one's first; other nets may have weights only."""
    return [
        folder for net in shipped_nets() if (folder := shipped_engine(net)).is_dir() or net == DEFAULT_NET
    ]


def shipped() -> dict[str, tuple[str, Path]]:
    """Back end and file or folder of what ships with the package, by engine name, the default first."""
    engines = shipped_engines()
    found: dict[str, tuple[str, Path]] = {}
    for net in shipped_nets():
        folder = shipped_engine(net)
        if folder in engines:
            found[folder.name] = ("openvino", folder)
        found[f"{net}-openvino-fp32"] = ("openvino", weights_file(net))
        found[f"{net}-eager-fp32"] = ("eager", weights_file(net))
    return found


def engine_names() -> tuple[str, ...]:
    """Names that :func:`load_backend` knows without a store, the default first."""
    return tuple(shipped())


def load_backend(
    engine: str | Path | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    throughput: bool = False,
    store: EngineStore | None = None,
    say: Say = lambda _: None,
) -> Backend:
    """Load an engine, ready to infer.

    ``engine`` is a name of :func:`engine_names`, the name of an engine in the store or the beginning of one,
    an engine folder (or ``manifest.json`` or the model in it), or a ``.safetensors`` checkpoint. None is the
    default: the shipped engine, or the fastest of the store's engines that may replace it
    (:mod:`streamseg.engines.selection`). ``backend`` (openvino or eager) chooses what runs a checkpoint; the
    default is openvino for a folded one, and eager, which needs torch, for an unfolded one.
    ``threads`` None follows the environment variable STREAMSEG_THREADS. ``throughput`` is for recordings:
    several frames at a time at the highest rate (openvino), instead of one at a time at the lowest latency.
    ``store`` None is the default one. ``say`` receives lines about the engine, such as that it is untrained.

    Raises EngineError (missing, damaged), EngineMisfit (built for another machine; its ``command`` builds
    it for this one), UsageError (unknown name), MissingExtra.
    """
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"no back end is called {backend!r}; choose one of {', '.join(BACKENDS)}")
    if engine is None and backend is None:
        return _fastest(EngineStore() if store is None else store, threads, throughput, say)
    name = DEFAULT if engine is None else str(engine)
    if name in (known := shipped()):
        kind, file = known[name]
        if backend not in (None, kind):
            raise UsageError(f"engine {name} runs on {kind}, not on {backend}; leave the back end out")
        if file.suffix == ".safetensors":
            return _load_checkpoint(file, kind, name, threads, throughput)
        return load_folder(file, threads=threads, throughput=throughput)
    path = locate(name, store)
    if path.suffix == ".safetensors":
        return _load_checkpoint(path, backend, path.stem, threads, throughput)
    return load_folder(path, backend=backend, threads=threads, throughput=throughput, say=say)


def load_folder(
    folder: Path,
    *,
    backend: str | None = None,
    threads: int | None = None,
    throughput: bool = False,
    say: Say = lambda _: None,
) -> Backend:
    """Load an engine folder; see :func:`load_backend`.

    The manifest is compared with this machine, then its seal is checked, then each file's hash: an engine
    that does not fit or was altered is never deserialised.
    """
    found = read_unchecked(folder)
    while True:
        try:
            loaded = _load_found(folder, found, backend, threads, throughput)
            break
        except EngineMisfit:
            raise
        except EngineError:
            now = read_unchecked(folder)
            if now.sha256 == found.sha256:
                raise
            found = now  # another process replaced the engine while it was read
    if not found.manifest.trained:
        say(f"engine {found.manifest.name} is UNTRAINED: its random weights only serve to measure speed")
    elif not found.manifest.passed and not found.manifest.portable:
        say(f"engine {found.manifest.name} did not pass the accuracy gate: do not trust its outlines")
    return loaded


def locate(engine: str | Path, store: EngineStore | None = None) -> Path:
    """The engine folder or ``.safetensors`` file that a name or path leads to.

    Raises UsageError if there is none, or a name leads to several, and EngineError for an engine in the store
    whose folder holds another one.
    """
    path = Path(engine)
    ours = shipped()
    if str(engine) in ours:
        return ours[str(engine)][1]
    if path.is_file() and (path.name == FILE_NAME or path.stem == "model"):
        return path.parent
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    known = f"known names are {', '.join(ours)}"
    if path.is_file():
        raise UsageError(
            f"{path} is not an engine; give an engine folder, a .safetensors checkpoint or a name: {known}"
        )
    store = EngineStore() if store is None else store
    entry = store.find(str(engine))
    if entry is None:
        raise UsageError(
            f"no engine is called {str(engine)!r}, and no such folder or file exists; {known}, "
            "and 'streamseg engines list' shows those that were built here"
        )
    if entry.manifest is not None and entry.manifest.name != entry.name:
        raise EngineError(
            f"the folder {entry.path} holds engine {entry.manifest.name}: it was renamed or swapped; "
            "export the engine again"
        )
    return entry.path


def _fastest(store: EngineStore, threads: int | None, throughput: bool, say: Say) -> Backend:
    """The first candidate that loads, else the shipped engine, so that a live display always starts."""
    shipped = WEIGHTS / DEFAULT
    for entry in candidates(store, read_unchecked(shipped).manifest, say=say):
        try:
            return load_folder(entry.path, threads=threads, throughput=throughput)
        except StreamsegError as error:
            say(f"engine {entry.name} is passed over: {error}")
    return load_folder(shipped, threads=threads, throughput=throughput)


def _load_found(
    folder: Path, found: ReadManifest, backend: str | None, threads: int | None, throughput: bool
) -> Backend:
    manifest = found.manifest
    plugin = None if manifest.backend in RUNNERS else plugins("backends").get(manifest.backend)
    if manifest.backend not in RUNNERS and plugin is None:
        raise EngineError(
            f"engine {folder} is for the back end {manifest.backend!r}, unknown to this version; "
            f"export it for one of {', '.join(RUNNERS)}"
        )
    if backend == "eager":
        raise UsageError(
            f"{folder} is an engine folder, which {manifest.backend} runs; give eager a .safetensors file"
        )
    if backend not in (None, manifest.backend):
        raise UsageError(
            f"engine {folder} runs on {manifest.backend}, not on {backend}; leave the back end out"
        )
    if reasons := incompatibilities(manifest):
        raise EngineMisfit(manifest.name, reasons, export_command(manifest))
    if not found.sealed:
        raise altered(folder)
    loader: Loader = plugin.make if plugin is not None else import_module(RUNNERS[manifest.backend]).load
    return loader(folder, manifest, found.sha256, threads=threads, throughput=throughput)


def _load_checkpoint(
    path: Path, kind: str | None, name: str, threads: int | None, throughput: bool
) -> Backend:
    checkpoint = read_checkpoint(path)
    if _choose(checkpoint, kind, name) == "eager":
        from streamseg.backends.eager import EagerBackend

        return EagerBackend(checkpoint, name, threads=threads)
    from streamseg.backends.openvino.backend import OpenVINOBackend

    return OpenVINOBackend.from_checkpoint(checkpoint, name, threads=threads, throughput=throughput)


def _choose(checkpoint: Checkpoint, kind: str | None, name: str) -> str:
    """The back end that runs a checkpoint. Raises EngineError if the one asked for cannot."""
    if kind == "openvino" and not checkpoint.folded:
        raise EngineError(
            f"openvino takes folded checkpoints, {name} is an unfolded one of {checkpoint.net}; "
            "use the eager back end"
        )
    return kind or ("openvino" if checkpoint.folded else "eager")
