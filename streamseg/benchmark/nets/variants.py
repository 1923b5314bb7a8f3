"""The engine variants that are measured: one net at one input shape by every back end in every precision."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamseg.backends.loading import (
    engine_names,
    load_backend,
    load_folder,
    shipped_engine,
    weights_file,
)
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError, one_line
from streamseg.core.types import Backend, Grey, Say
from streamseg.engines.checkpoint import NETS, Checkpoint, write_checkpoint
from streamseg.engines.compatibility import incompatibilities
from streamseg.engines.manifest import PRECISIONS, Manifest, read_manifest
from streamseg.engines.store import EngineStore
from streamseg.export.build import build_engine
from streamseg.export.source import resolve

ALL_NETS = ("improved_unet", "lite_unet", "unet", "segnet")
"""In the order in which they are measured."""
EAGER = "eager"
"""Back end of the variant that all others are compared with: torch with the paper's net as trained."""
EAGER_GPU = "eager-cuda"
"""The same on a GPU."""
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
UNFOLDABLE = ("unet",)
"""Nets without batch normalisation or shortcut: as trained and folded they are the same."""


@dataclass(frozen=True, slots=True)
class InputShape:
    """One net at one input size and batch: its variants are compared with one another."""

    net: str
    height: int
    width: int
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.net} {self.height}x{self.width} b{self.batch}"


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """One way to run any net."""

    backend: str
    """A name of OFFERED."""
    precision: str
    """What is asked for: fp32, fp16, bf16 or int8."""
    folded: bool = True

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}{'' if self.folded else ' as trained'}"

    @property
    def is_eager(self) -> bool:
        """Whether torch runs it kernel by kernel."""
        return self.backend in (EAGER, EAGER_GPU)

    def key(self, shape: InputShape) -> str:
        """The key of this variant of a net, unique within a run: ``unet openvino int8 192x224 b1``."""
        return f"{shape.net} {self} {shape.height}x{shape.width} b{shape.batch}"


@dataclass(frozen=True, slots=True, repr=False)
class Variant:
    """An engine that runs a net, loaded and ready."""

    shape: InputShape
    spec: VariantSpec
    engine: Backend
    """Takes (batch, 1, height, width)."""
    trained: bool
    origin: str
    """``shipped``, ``store``, ``built`` (in this run), ``torch`` or ``given``."""
    model_bytes: int
    build_s: float | None = None
    """Seconds that building took, if it was built in this run."""
    start_task: Mapping[str, Any] = field(default_factory=dict)
    """How a process of its own loads the same (:mod:`streamseg.benchmark.nets.start`); empty if none can."""

    @property
    def key(self) -> str:
        """Unique within a run."""
        return self.spec.key(self.shape)

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.spec.backend in ON_GPU or EngineInfo.of(self.engine).on_gpu

    def precision_found(self) -> dict[str, float]:
        """Share of its layers by the precision that the loaded engine says it computes in; empty if it does
        not say."""
        ask = getattr(self.engine, "precision_found", None)
        return dict(ask()) if callable(ask) else {}


def plan(
    backends: Sequence[str], precisions: Sequence[str], *, gpu: bool, quick: bool
) -> tuple[list[VariantSpec], dict[str, str]]:
    """The ways to run a net, and why something that was asked for is not among them, by its words.

    By default they are what this machine has: eager and openvino, onnx if it is installed (not if ``quick``),
    on a GPU also eager-cuda and tensorrt; fp32 and int8, on a GPU also fp16. ``compiled`` takes minutes to
    build and is measured only if asked for. The references are always among them: torch eager FP32 as
    trained, on the device of each. Raises UsageError for an unknown name, and if nothing of what was asked
    for can be had.
    """
    check_names("back end", backends, tuple(OFFERED))
    check_names("precision", precisions, PRECISIONS)
    chosen = list(dict.fromkeys(backends)) or _usual_backends(gpu, quick)
    specs = [VariantSpec(EAGER, "fp32", folded=False)]
    if EAGER_GPU in chosen or (gpu and {"tensorrt", "compiled"} & set(chosen)):
        specs.append(VariantSpec(EAGER_GPU, "fp32", folded=False))
    absent, references = {}, len(specs)
    for backend in chosen:
        wanted = list(dict.fromkeys(precisions)) or list(USUAL_ON_GPU if backend in ON_GPU else USUAL)
        for precision in wanted:
            spec = VariantSpec(backend, precision)
            if precision in OFFERED[backend]:
                specs.append(spec)
            elif backends and precisions:
                offered = ", ".join(OFFERED[backend])
                absent[str(spec)] = f"{backend} computes in {offered}; {precision} cannot be had there"
    if absent and len(specs) == references:
        raise UsageError(f"nothing of what was asked for can be had: {next(iter(absent.values()))}")
    return specs, absent


def check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError, naming the choices, for an unknown name."""
    for name in given:
        if name not in known:
            raise UsageError(f"no {what} is called {name!r}; choose one of {', '.join(known)}")


def check_nets(nets: Sequence[str]) -> tuple[str, ...]:
    """The nets that were asked for, each once; by default all of them. Raises UsageError."""
    check_names("net", nets, NETS)
    return tuple(dict.fromkeys(nets)) or ALL_NETS


def _usual_backends(gpu: bool, quick: bool) -> list[str]:
    found = [EAGER, "openvino"]
    if not quick and find_spec("onnxruntime") is not None:
        found.append("onnx")
    return [*found, *ON_GPU] if gpu else found


@dataclass(slots=True, repr=False)
class VariantBuilder:
    """Builds or loads the engine variants to be measured: those that are shipped or in the store are
    taken."""

    scratch: Path
    """A folder for engines that are built only to be measured."""
    threads: int
    calibration: int = 32
    """Phantoms that INT8's ranges are measured on, if an engine has to be built."""
    untrained_calibration: int = 32
    """The same for random weights."""
    starts: bool = True
    """Write torch's weights to files for processes of their own, which takes a while for large nets."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """Trained weights by net, instead of the shipped or random ones."""
    store: EngineStore = field(default_factory=EngineStore)
    say: Say = lambda _: None
    _images: list[Grey] = field(default_factory=list)
    _took_s: dict[VariantSpec, float] = field(default_factory=dict)
    """The longest time that each way took so far, of any net."""

    def make(
        self, shape: InputShape, specs: Sequence[VariantSpec], limit: TimeLimit | None = None
    ) -> tuple[list[Variant], dict[str, str]]:
        """The net's variants in order, and by key why one is absent. Raises what :func:`resolve` does.

        None is made after ``limit``, nor one that would end later if it took as long as that of another net.
        Torch's folded form is left out for a net that has nothing to fold: it is the one as trained.
        """
        limit = limit or TimeLimit()
        checkpoint = resolve(str(self.weights.get(shape.net, shape.net)), (shape.height, shape.width))
        made: list[Variant] = []
        absent: dict[str, str] = {}
        for spec in specs:
            if shape.net in UNFOLDABLE and spec.folded and replace(spec, folded=False) in specs:
                continue
            if not limit.fits(self._took_s.get(spec, 0.0)):
                absent[spec.key(shape)] = TOO_LATE
                continue
            began_s = limit.now_s()
            try:
                made.append(self.one(shape, checkpoint, spec))
            except Exception as error:  # compilers raise anything, and the others must stay
                absent[spec.key(shape)] = one_line(error, 300)
            took_s = limit.now_s() - began_s
            self._took_s[spec] = max(took_s, self._took_s.get(spec, 0.0))
        return made, absent

    def one(self, shape: InputShape, checkpoint: Checkpoint, spec: VariantSpec) -> Variant:
        """One variant: shipped, of the store, or built here; torch's from the weights. Raises EngineError, or
        what a compiler raises."""
        if spec.is_eager:
            return self._torch(shape, checkpoint, spec)
        found = self._shipped(shape, checkpoint, spec) or self._stored(shape, checkpoint, spec)
        return found or self._built(shape, checkpoint, spec)

    def _torch(self, shape: InputShape, checkpoint: Checkpoint, spec: VariantSpec) -> Variant:
        from streamseg.backends.eager import EagerBackend

        form: dict[str, Any] = {
            "folded": spec.folded,
            "device": "cuda" if spec.backend == EAGER_GPU else "cpu",
            "precision": spec.precision,
            "batch": shape.batch,
        }
        engine = EagerBackend(checkpoint, **form, threads=self.threads)
        task = {"checkpoint": str(self._weights(checkpoint)), **form} if self.starts else {}
        return Variant(shape, spec, engine, checkpoint.trained, "torch", engine.model_bytes, start_task=task)

    def _shipped(self, shape: InputShape, checkpoint: Checkpoint, spec: VariantSpec) -> Variant | None:
        """The engine that comes with the package, if its weights and input are these."""
        if shape.batch != 1 or spec.backend != "openvino":
            return None
        folder = shipped_engine(shape.net)
        if folder.name not in engine_names():
            return None
        manifest, _ = read_manifest(folder)
        if (checkpoint.sha256, checkpoint.spec) != (manifest.checkpoint_sha256, manifest.spec):
            return None
        names = {"int8": folder.name, "fp32": f"{shape.net}-openvino-fp32"}
        if spec.precision not in names:
            return None
        name = names[spec.precision]
        engine = load_backend(name, threads=self.threads)
        if spec.precision == "int8":
            size = _bytes(folder, manifest)
        else:
            size = weights_file(shape.net).stat().st_size
        return Variant(shape, spec, engine, checkpoint.trained, "shipped", size, start_task={"engine": name})

    def _stored(self, shape: InputShape, checkpoint: Checkpoint, spec: VariantSpec) -> Variant | None:
        """An engine of the store that was exported from these weights and passed the gate."""
        for entry in self.store.entries():
            manifest = entry.manifest
            if manifest is None or not entry.sealed or not _is_of(manifest, shape, checkpoint, spec):
                continue
            if manifest.passed and not incompatibilities(manifest) and not self.store.verify(entry.path):
                return self._loaded(entry.path, manifest, shape, spec, origin="store")
        return None

    def _built(self, shape: InputShape, checkpoint: Checkpoint, spec: VariantSpec) -> Variant:
        self.say(f"building {spec.key(shape)}")
        folder = self.scratch / spec.key(shape).replace(" ", "-")
        images = self._calibration(checkpoint.trained) if spec.precision == "int8" else ()
        began = time.monotonic()
        with redirect_stdout(io.StringIO()):  # compilers print their progress where the tables go
            manifest = build_engine(
                checkpoint, spec.backend, spec.precision, folder, batch=shape.batch, images=images
            )
        seconds = round(time.monotonic() - began, 2)
        return self._loaded(folder, manifest, shape, spec, origin="built", build_s=seconds)

    def _loaded(
        self,
        folder: Path,
        manifest: Manifest,
        shape: InputShape,
        spec: VariantSpec,
        *,
        origin: str,
        build_s: float | None = None,
    ) -> Variant:
        engine = load_folder(folder, threads=self.threads)
        size, task = _bytes(folder, manifest), {"engine": str(folder)}
        return Variant(shape, spec, engine, manifest.trained, origin, size, build_s, task)

    def _calibration(self, trained: bool) -> list[Grey]:
        from streamseg.phantom import render_still
        from streamseg.phantom.seeds import CALIBRATION

        count = self.calibration if trained else self.untrained_calibration
        for number in range(len(self._images), count):
            self._images.append(render_still(CALIBRATION.first + number).image)
        return self._images[:count]

    def _weights(self, checkpoint: Checkpoint) -> Path:
        """A file with the weights at the net's input size, for processes of their own."""
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


def _is_of(manifest: Manifest, shape: InputShape, checkpoint: Checkpoint, spec: VariantSpec) -> bool:
    return (
        manifest.backend == spec.backend
        and manifest.precision == spec.precision
        and manifest.batch == shape.batch
        and manifest.net == checkpoint.net
        and manifest.checkpoint_sha256 == checkpoint.sha256
        and manifest.spec == checkpoint.spec
    )


def _bytes(folder: Path, manifest: Manifest) -> int:
    return sum((folder / name).stat().st_size for name in manifest.files)
