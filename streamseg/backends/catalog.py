"""Finding an engine by name or path."""

from __future__ import annotations

from pathlib import Path

from streamseg.checkpoint import Checkpoint, read_checkpoint
from streamseg.errors import EngineError, UsageError
from streamseg.types import Backend

DEFAULT = "improved_unet-openvino-int8"
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Folder of the weights and engines that ship with the package."""
SHIPPED: dict[str, tuple[str, str]] = {
    DEFAULT: ("openvino", DEFAULT),
    "improved_unet-openvino-fp32": ("openvino", "improved_unet.safetensors"),
    "improved_unet-eager-fp32": ("eager", "improved_unet.safetensors"),
}
"""Back end and file or folder inside WEIGHTS, by engine name."""
BACKENDS = ("openvino", "eager")


def engine_names() -> tuple[str, ...]:
    """Names that :func:`load_backend` knows, the default first."""
    return tuple(SHIPPED)


def load_backend(
    engine: str | Path | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    throughput: bool = False,
) -> Backend:
    """Load an engine, ready to infer.

    ``engine`` is a name of :func:`engine_names`, an engine folder (or the ``model.xml`` or
    ``manifest.json`` in it), or a ``.safetensors`` checkpoint; None is the default. ``backend``
    (openvino or eager) chooses what runs a checkpoint: by itself that is openvino for a folded U-Net or
    improved U-Net, and eager, which needs torch, for any other. ``threads`` None follows the
    environment variable STREAMSEG_THREADS. ``throughput`` is for recordings: several frames at a time at the
    highest rate (openvino), instead of one at a time at the lowest latency.

    Raises EngineError (missing, damaged, does not fit), UsageError (unknown name), MissingExtra.
    """
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"no back end is called {backend!r}; choose one of {', '.join(BACKENDS)}")
    if engine is None or str(engine) in SHIPPED:
        name = DEFAULT if engine is None else str(engine)
        kind, file = SHIPPED[name]
        if backend not in (None, kind):
            raise UsageError(f"engine {name} runs on {kind}, not on {backend}; leave the back end out")
        return _load(WEIGHTS / file, kind, name, threads, throughput)
    return _load(_existing(engine), backend, None, threads, throughput)


def _existing(engine: str | Path) -> Path:
    path = Path(engine)
    if path.is_file() and path.name in ("model.xml", "model.bin", "manifest.json"):
        return path.parent
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    known = f"known names are {', '.join(SHIPPED)}"
    if path.is_file():
        raise UsageError(
            f"{path} is not an engine; give an engine folder, a .safetensors checkpoint or a name: {known}"
        )
    raise UsageError(f"no engine is called {str(engine)!r}, and no such folder or file exists; {known}")


def _load(path: Path, kind: str | None, name: str | None, threads: int | None, throughput: bool) -> Backend:
    if path.suffix == ".safetensors":
        checkpoint = read_checkpoint(path)
        name = name or path.stem
        if _choose(checkpoint, kind, name) == "eager":
            from streamseg.backends.eager import EagerBackend

            return EagerBackend(checkpoint, name, threads=threads)
        from streamseg.backends.openvino import OpenVINOBackend

        return OpenVINOBackend.from_checkpoint(checkpoint, name, threads=threads, throughput=throughput)
    if kind == "eager":
        raise UsageError(f"{path} is an engine folder, which openvino runs; give eager a .safetensors file")
    from streamseg.backends.openvino import OpenVINOBackend

    return OpenVINOBackend.from_folder(path, threads=threads, throughput=throughput)


def _choose(checkpoint: Checkpoint, kind: str | None, name: str) -> str:
    """The back end that runs a checkpoint. Raises EngineError where the wanted one cannot."""
    buildable = checkpoint.folded and checkpoint.net != "segnet"
    if kind == "openvino" and not buildable:
        form = "a folded" if checkpoint.folded else "an unfolded"
        raise EngineError(
            f"openvino takes folded checkpoints of unet and improved_unet, {name} is {form} one "
            f"of {checkpoint.net}; use the eager back end"
        )
    return kind or ("openvino" if buildable else "eager")
