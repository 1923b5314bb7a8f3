"""Makes what is measured: engines as shipped, of the store, or built for the occasion; and torch's nets."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from streamseg.backends.loading import DEFAULT, WEIGHTS, load_backend, load_folder
from streamseg.benchmark.nets.plan import EAGER_GPU, Way
from streamseg.benchmark.rows import why_absent
from streamseg.benchmark.subject import EAGER, Point, Subject, subject_key
from streamseg.core.hardware import this_machine
from streamseg.core.types import Backend, Grey
from streamseg.engines.checkpoint import Checkpoint, write_checkpoint
from streamseg.engines.compatibility import incompatibilities
from streamseg.engines.manifest import Manifest, read_manifest
from streamseg.engines.store import EngineStore
from streamseg.export.contract import BUILDERS, BuildOrder
from streamseg.export.source import resolve

CALIBRATION_SEED = 0
"""Of the first phantom that INT8's ranges are measured on."""
UNFOLDABLE = ("unet",)
"""Nets without batch normalisation or shortcut: as trained and folded they are the same."""
SHIPPED_FP32 = "improved_unet-openvino-fp32"
"""Shipped as weights, which OpenVINO compiles when they are loaded."""

Say = Callable[[str], None]


@dataclass(slots=True, repr=False)
class Workshop:
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

    def make(self, point: Point, ways: Sequence[Way]) -> tuple[list[Subject], dict[str, str]]:
        """The point's subjects in order, and by key why one is absent. Raises what :func:`resolve` does.

        Torch's folded form is left out for a net that has nothing to fold: it is the one as trained.
        """
        size = point.height, point.width
        checkpoint = resolve(point.net, size)
        made: list[Subject] = []
        absent: dict[str, str] = {}
        for way in ways:
            if point.net in UNFOLDABLE and way.folded and replace(way, folded=False) in ways:
                continue
            try:
                made.append(self.one(point, checkpoint, way))
            except Exception as error:  # compilers raise whatever they like, and the others must stay
                absent[key_of(point, way)] = why_absent(error, 300)
        return made, absent

    def one(self, point: Point, checkpoint: Checkpoint, way: Way) -> Subject:
        """A subject: shipped, of the store, or built here; torch's from the weights. Raises EngineError, or
        what a compiler raises."""
        if way.backend in (EAGER, EAGER_GPU):
            return self._torch(point, checkpoint, way)
        found = self._shipped(point, checkpoint, way) or self._stored(point, checkpoint, way)
        return found or self._built(point, checkpoint, way)

    def _torch(self, point: Point, checkpoint: Checkpoint, way: Way) -> Subject:
        from streamseg.benchmark.torch_engine import TorchEngine

        device = "cuda" if way.backend == EAGER_GPU else "cpu"
        engine = TorchEngine(
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
        return subject_of(
            checkpoint, way, engine, origin="torch", model_bytes=engine.model_bytes, child=child
        )

    def _shipped(self, point: Point, checkpoint: Checkpoint, way: Way) -> Subject | None:
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
        return subject_of(checkpoint, way, engine, origin="shipped", model_bytes=size, child=child)

    def _stored(self, point: Point, checkpoint: Checkpoint, way: Way) -> Subject | None:
        """An engine of the store that was exported from these weights and passed the gate."""
        for entry in self.store.entries():
            manifest = entry.manifest
            if manifest is None or not entry.sealed or not _is_of(manifest, point, checkpoint, way):
                continue
            if not manifest.passed or incompatibilities(manifest) or self.store.verify(entry.path):
                continue
            engine = load_folder(entry.path, threads=self.threads)
            size, child = _bytes(entry.path, manifest), {"engine": str(entry.path)}
            return subject_of(checkpoint, way, engine, origin="store", model_bytes=size, child=child)
        return None

    def _built(self, point: Point, checkpoint: Checkpoint, way: Way) -> Subject:
        self.say(f"building {key_of(point, way)}")
        folder = self.scratch / key_of(point, way).replace(" ", "-")
        images = self._calibration(checkpoint.trained) if way.precision == "int8" else ()
        began = time.monotonic()
        with redirect_stdout(io.StringIO()):  # compilers tell their progress where the tables go
            manifest = build_engine(checkpoint, point, way, images, folder)
        seconds = time.monotonic() - began
        engine = load_folder(folder, threads=self.threads)
        return subject_of(
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
    checkpoint: Checkpoint, point: Point, way: Way, images: Sequence[Grey], folder: Path
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


def subject_of(
    checkpoint: Checkpoint,
    way: Way,
    engine: Backend,
    *,
    origin: str,
    model_bytes: int,
    child: Mapping[str, Any],
    build_s: float | None = None,
) -> Subject:
    """A subject of a loaded engine, which is asked what it computes in."""
    ask = getattr(engine, "precision_found", None)
    spec = checkpoint.spec
    return Subject(
        point=Point(checkpoint.net, spec.height, spec.width, int(getattr(engine, "batch", 1))),
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


def key_of(point: Point, way: Way) -> str:
    """The key that the subject of this way has, or would have."""
    return subject_key(point, way.backend, way.precision, folded=way.folded)


def _is_of(manifest: Manifest, point: Point, checkpoint: Checkpoint, way: Way) -> bool:
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
