"""What a benchmark measures: a net at one size, run by something, in one precision."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamseg.backends.loading import DEFAULT, WEIGHTS, load_backend, load_folder
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError, one_line
from streamseg.core.hardware import this_machine
from streamseg.core.types import Backend, Grey, Say
from streamseg.engines.checkpoint import NETS, Checkpoint, write_checkpoint
from streamseg.engines.compatibility import incompatibilities
from streamseg.engines.manifest import PRECISIONS, Manifest, read_manifest
from streamseg.engines.store import EngineStore
from streamseg.export.contract import BUILDERS, BuildOrder
from streamseg.export.source import resolve

EAGER = "eager"
"""Back end of the variant that all others are compared with: torch as the paper's net was trained."""


@dataclass(frozen=True, slots=True)
class InputShape:
    """One net at one input size and batch: what is compared shares it."""

    net: str
    height: int
    width: int
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.net} {self.height}x{self.width} b{self.batch}"


@dataclass(frozen=True, slots=True, repr=False)
class Variant:
    """A way to run a point's net, loaded and ready."""

    point: InputShape
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
        return variant_key(self.point, self.backend, self.precision, folded=self.folded)


def variant_key(point: InputShape, backend: str, precision: str, *, folded: bool) -> str:
    """What a way to run a point's net is called in results: ``improved_unet openvino int8 192x224 b1``."""
    form = "" if folded else " as trained"
    return f"{point.net} {backend} {precision}{form} {point.height}x{point.width} b{point.batch}"


ALL_NETS = ("improved_unet", "unet", "segnet")
"""In the order in which they are measured."""
EAGER_GPU = "eager-cuda"
"""torch as written, on a GPU."""
OFFERED = {
    EAGER: ("fp32", "bf16"),
    "openvino": PRECISIONS,
    "onnx": ("fp32", "fp16", "int8"),
    EAGER_GPU: ("fp32", "fp16", "bf16"),
    "tensorrt": PRECISIONS,
    "compiled": ("fp32", "fp16", "bf16"),
}
"""Precisions that each back end can be asked for; some only on some machines."""
USUAL = ("fp32", "int8")
USUAL_ON_GPU = ("fp32", "fp16", "int8")
ON_GPU = (EAGER_GPU, "tensorrt")


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A way to run any net."""

    backend: str
    precision: str
    folded: bool = True

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}{'' if self.folded else ' as trained'}"


def plan(
    backends: Sequence[str], precisions: Sequence[str], *, gpu: bool, quick: bool
) -> tuple[list[VariantSpec], dict[str, str]]:
    """The ways to run a net, and why what was asked for is not among them, by its words.

    Empty means what this machine has: eager and openvino, onnx where it is installed (not if ``quick``), on a
    GPU also eager-cuda and tensorrt; fp32 and int8, on a GPU also fp16. ``compiled`` takes minutes to build,
    so it is measured where it is asked for. What the others are compared with is always among them: torch
    eager FP32 as trained, on the device of each. Raises UsageError for a name that there is not, and where
    there is nothing of what was asked for.
    """
    check_names("back end", backends, tuple(OFFERED))
    check_names("precision", precisions, PRECISIONS)
    chosen = list(dict.fromkeys(backends)) or _usual_backends(gpu, quick)
    ways = [VariantSpec(EAGER, "fp32", folded=False)]
    if EAGER_GPU in chosen or (gpu and {"tensorrt", "compiled"} & set(chosen)):
        ways.append(VariantSpec(EAGER_GPU, "fp32", folded=False))
    absent, references = {}, len(ways)
    for backend in chosen:
        wanted = list(dict.fromkeys(precisions)) or list(USUAL_ON_GPU if backend in ON_GPU else USUAL)
        for precision in wanted:
            way = VariantSpec(backend, precision)
            if precision in OFFERED[backend]:
                ways.append(way)
            elif backends and precisions:
                offered = ", ".join(OFFERED[backend])
                absent[str(way)] = f"{backend} computes in {offered}; {precision} is not to be had there"
    if absent and len(ways) == references:
        raise UsageError(f"nothing of what was asked for is to be had: {next(iter(absent.values()))}")
    return ways, absent


def check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError, naming the choices, where one of the names is not known."""
    for name in given:
        if name not in known:
            raise UsageError(f"no {what} is called {name!r}; choose one of {', '.join(known)}")


def check_nets(nets: Sequence[str]) -> tuple[str, ...]:
    """The nets asked for, each once; all of them where none is. Raises UsageError."""
    check_names("net", nets, NETS)
    return tuple(dict.fromkeys(nets)) or ALL_NETS


def _usual_backends(gpu: bool, quick: bool) -> list[str]:
    found = [EAGER, "openvino"]
    if not quick and find_spec("onnxruntime") is not None:
        found.append("onnx")
    return [*found, *ON_GPU] if gpu else found


CALIBRATION_SEED = 0
"""Of the first phantom that INT8's ranges are measured on."""
UNFOLDABLE = ("unet",)
"""Nets without batch normalisation or shortcut: as trained and folded they are the same."""
SHIPPED_FP32 = "improved_unet-openvino-fp32"
"""Shipped as weights, which OpenVINO compiles when they are loaded."""


@dataclass(slots=True, repr=False)
class VariantBuilder:
    """Where subjects are made."""

    scratch: Path
    """A folder for engines that are built only to be measured."""
    threads: int
    calibration: int = 32
    """Phantoms that INT8's ranges are measured on, where an engine has to be built."""
    untrained_calibration: int = 32
    """The same for random weights."""
    starts: bool = True
    """Put torch's weights into files for processes of their own, which takes a while for large nets."""
    store: EngineStore = field(default_factory=EngineStore)
    say: Say = lambda _: None
    _images: list[Grey] = field(default_factory=list)

    def make(self, point: InputShape, ways: Sequence[VariantSpec]) -> tuple[list[Variant], dict[str, str]]:
        """The point's subjects in order, and by key why one is absent. Raises what :func:`resolve` does.

        Torch's folded form is left out for a net that has nothing to fold: it is the one as trained.
        """
        size = point.height, point.width
        checkpoint = resolve(point.net, size)
        made: list[Variant] = []
        absent: dict[str, str] = {}
        for way in ways:
            if point.net in UNFOLDABLE and way.folded and replace(way, folded=False) in ways:
                continue
            try:
                made.append(self.one(point, checkpoint, way))
            except Exception as error:  # compilers raise whatever they like, and the others must stay
                absent[key_of(point, way)] = one_line(error, 300)
        return made, absent

    def one(self, point: InputShape, checkpoint: Checkpoint, way: VariantSpec) -> Variant:
        """A subject: shipped, of the store, or built here; torch's from the weights. Raises EngineError, or
        what a compiler raises."""
        if way.backend in (EAGER, EAGER_GPU):
            return self._torch(point, checkpoint, way)
        found = self._shipped(point, checkpoint, way) or self._stored(point, checkpoint, way)
        return found or self._built(point, checkpoint, way)

    def _torch(self, point: InputShape, checkpoint: Checkpoint, way: VariantSpec) -> Variant:
        from streamseg.backends.eager import EagerBackend

        device = "cuda" if way.backend == EAGER_GPU else "cpu"
        engine = EagerBackend(
            checkpoint,
            folded=way.folded,
            device=device,
            precision=way.precision,
            batch=point.batch,
            threads=self.threads,
        )
        child: dict[str, Any] = {}
        if self.starts:
            child = {
                "checkpoint": str(self._weights(checkpoint)),
                "folded": way.folded,
                "device": device,
                "precision": way.precision,
                "batch": point.batch,
            }
        return variant_of(
            checkpoint, way, engine, origin="torch", model_bytes=engine.model_bytes, child=child
        )

    def _shipped(self, point: InputShape, checkpoint: Checkpoint, way: VariantSpec) -> Variant | None:
        """The engine that comes with the package, where the point is its own."""
        if point.batch != 1 or way.backend != "openvino":
            return None
        manifest, _ = read_manifest(WEIGHTS / DEFAULT)
        if (checkpoint.sha256, checkpoint.spec) != (manifest.checkpoint_sha256, manifest.spec):
            return None
        names = {"int8": DEFAULT, "fp32": SHIPPED_FP32}
        if way.precision not in names:
            return None
        engine = load_backend(names[way.precision], threads=self.threads)
        if way.precision == "int8":
            size = _bytes(WEIGHTS / DEFAULT, manifest)
        else:
            size = (WEIGHTS / f"{point.net}.safetensors").stat().st_size
        child = {"engine": names[way.precision]}
        return variant_of(checkpoint, way, engine, origin="shipped", model_bytes=size, child=child)

    def _stored(self, point: InputShape, checkpoint: Checkpoint, way: VariantSpec) -> Variant | None:
        """An engine of the store that was exported from these weights and passed the gate."""
        for entry in self.store.entries():
            manifest = entry.manifest
            if manifest is None or not entry.sealed or not _is_of(manifest, point, checkpoint, way):
                continue
            if not manifest.passed or incompatibilities(manifest) or self.store.verify(entry.path):
                continue
            engine = load_folder(entry.path, threads=self.threads)
            size, child = _bytes(entry.path, manifest), {"engine": str(entry.path)}
            return variant_of(checkpoint, way, engine, origin="store", model_bytes=size, child=child)
        return None

    def _built(self, point: InputShape, checkpoint: Checkpoint, way: VariantSpec) -> Variant:
        self.say(f"building {key_of(point, way)}")
        folder = self.scratch / key_of(point, way).replace(" ", "-")
        images = self._calibration(checkpoint.trained) if way.precision == "int8" else ()
        began = time.monotonic()
        with redirect_stdout(io.StringIO()):  # compilers tell their progress where the tables go
            manifest = build_engine(checkpoint, point, way, images, folder)
        seconds = time.monotonic() - began
        engine = load_folder(folder, threads=self.threads)
        return variant_of(
            checkpoint,
            way,
            engine,
            origin="built",
            model_bytes=_bytes(folder, manifest),
            child={"engine": str(folder)},
            build_s=round(seconds, 2),
        )

    def _calibration(self, trained: bool) -> list[Grey]:
        from streamseg.phantom import render_still

        count = self.calibration if trained else self.untrained_calibration
        for number in range(len(self._images), count):
            self._images.append(render_still(CALIBRATION_SEED + number).image)
        return self._images[:count]

    def _weights(self, checkpoint: Checkpoint) -> Path:
        """A file with the weights at the point's size, for processes of their own."""
        spec = checkpoint.spec
        path = self.scratch / f"{checkpoint.net}-{spec.height}x{spec.width}.safetensors"
        if not path.exists():
            write_checkpoint(
                path,
                checkpoint.weights,
                net=checkpoint.net,
                folded=checkpoint.folded,
                trained=checkpoint.trained,
                spec=spec,
            )
        return path


def build_engine(
    checkpoint: Checkpoint, point: InputShape, way: VariantSpec, images: Sequence[Grey], folder: Path
) -> Manifest:
    """Write an engine folder as the export does, but for the accuracy gate. Raises EngineError, MissingExtra,
    or what a compiler raises."""
    folder.mkdir(parents=True)
    order = BuildOrder(checkpoint, way.precision, point.batch, images)
    built = import_module(BUILDERS[way.backend]).build(order, folder)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    manifest = Manifest(
        name=folder.name,
        net=checkpoint.net,
        backend=way.backend,
        precision=way.precision,
        folded=True,
        trained=checkpoint.trained,
        spec=checkpoint.spec,
        checkpoint_sha256=checkpoint.sha256,
        files=files,
        batch=point.batch,
        machine=this_machine(),
        versions=built.versions,
    )
    manifest.write(folder)
    return manifest


def variant_of(
    checkpoint: Checkpoint,
    way: VariantSpec,
    engine: Backend,
    *,
    origin: str,
    model_bytes: int,
    child: Mapping[str, Any],
    build_s: float | None = None,
) -> Variant:
    """A subject of a loaded engine, which is asked what it computes in."""
    ask = getattr(engine, "precision_found", None)
    spec = checkpoint.spec
    return Variant(
        point=InputShape(checkpoint.net, spec.height, spec.width, EngineInfo.of(engine).batch),
        backend=way.backend,
        precision=way.precision,
        engine=engine,
        precision_found=ask() if callable(ask) else {},
        folded=way.folded,
        trained=checkpoint.trained,
        origin=origin,
        model_bytes=model_bytes,
        build_s=build_s,
        child=child,
    )


def key_of(point: InputShape, way: VariantSpec) -> str:
    """The key that the subject of this way has, or would have."""
    return variant_key(point, way.backend, way.precision, folded=way.folded)


def _is_of(manifest: Manifest, point: InputShape, checkpoint: Checkpoint, way: VariantSpec) -> bool:
    return (
        manifest.backend == way.backend
        and manifest.precision == way.precision
        and manifest.batch == point.batch
        and manifest.net == checkpoint.net
        and manifest.checkpoint_sha256 == checkpoint.sha256
        and manifest.spec == checkpoint.spec
    )


def _bytes(folder: Path, manifest: Manifest) -> int:
    return sum((folder / name).stat().st_size for name in manifest.files)
