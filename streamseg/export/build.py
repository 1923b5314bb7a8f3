"""Builds engines: weights in, a judged engine in the store out.

:func:`export` finds the weights and the recipe's frames, lets the back end's builder write the files, loads
them as any program would, reads what the engine computes in, passes it through the accuracy gate, measures
its speed, and publishes it. A failure on the way leaves the store as it was.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from streamseg.backends.eager import EagerBackend
from streamseg.backends.loading import load_folder
from streamseg.core.errors import GateError, MissingExtra, UsageError
from streamseg.core.files import write_whole
from streamseg.core.hardware import this_machine
from streamseg.core.types import Backend, Grey, Say
from streamseg.datasets import Dataset, RunSplit, open_dataset
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.compatibility import incompatibilities
from streamseg.engines.manifest import Manifest
from streamseg.engines.store import EngineStore, engine_name
from streamseg.export.contract import (
    BUILDERS,
    BuildOrder,
    BuildResult,
    ExportRequest,
    ExportResult,
    LineReporter,
    Reporter,
)
from streamseg.export.gate import judge, measure_speed
from streamseg.export.recipe import (
    PRESETS,
    Recipe,
    RecipeFrames,
    gather,
    make_recipe,
    origin,
    phantom_recipe,
    read_recipe,
)
from streamseg.export.source import is_shipped, resolve

BETTER = {"int8": "fp16", "bf16": "fp32", "fp16": "fp32"}
"""The next better precision; for OpenVINO, which gains nothing from FP16, INT8's is FP32."""
RECIPES = Path(__file__).resolve().parents[2] / "calibration"
"""Folder of a checkout's recipes."""
UNTRAINED_FRAMES = 8
"""Frames whose probabilities are compared for random weights."""
RECIPE_FILE = "recipe.json"
"""The recipe in an engine's folder, for building it again."""
SCALES_FILE = "scales.json"
"""INT8: the measured ranges of the activations."""


def export(request: ExportRequest, store: EngineStore, report: Reporter) -> ExportResult:
    """Build an engine into the store, or find it there.

    Raises UsageError for an invalid request, MissingExtra, DataError for a recipe without its images,
    EngineError if it cannot be built or run here, and GateError if the accuracy gate refuses it.
    """
    request.check()
    checkpoint = resolve(request.source, request.size)
    if request.mirror is not None:
        checkpoint = replace(checkpoint, spec=replace(checkpoint.spec, mirrored=request.mirror))
    recipe, data = _recipe(request, checkpoint)

    @cache
    def frames() -> RecipeFrames:
        """Made once, and only where an engine is built: phantoms take seconds, real images are all read."""
        found = gather(recipe, data, calibrate=int8)
        if checkpoint.trained:
            return found
        return replace(found, validation=found.validation[:UNTRAINED_FRAMES])

    int8 = request.precision == "int8"
    origin_of_frames = origin(recipe, data)
    while True:
        try:
            return _Work(request, store, report, checkpoint, recipe, origin_of_frames, frames).run()
        except GateError as error:
            better = BETTER.get(request.precision)
            if better == "fp16" and request.backend == "openvino":
                better = "fp32"
            if better is None:
                raise
            if not request.better:
                raise GateError(
                    f"{error}; try --precision {better}, or --better to fall back automatically"
                ) from None
            report.say(f"{error}; taking {better} instead")
            request = replace(request, precision=better)


def rebuild(manifest: Manifest, store: EngineStore, *, say: Say) -> Path:
    """Build an engine of the store again for this machine, from the same weights and recipe; its new folder.

    Raises what :func:`export` raises, and UsageError if the weights are no longer those of the engine.
    """
    if not manifest.source:
        raise UsageError(f"engine {manifest.name} does not say what it was built from; export it again")
    size = (manifest.spec.height, manifest.spec.width)
    checkpoint = resolve(manifest.source, size)
    if checkpoint.sha256 != manifest.checkpoint_sha256:
        raise UsageError(
            f"{manifest.source} no longer holds the weights of engine {manifest.name} (sha256 "
            f"{checkpoint.sha256[:12]}..., it was {manifest.checkpoint_sha256[:12]}...); export it again"
        )
    stored = store.root / manifest.name / RECIPE_FILE
    folder = Path(str(manifest.calibration.get("folder") or ""))
    request = ExportRequest(
        manifest.source,
        manifest.backend,
        manifest.precision,
        size,
        manifest.batch,
        data=folder if str(folder) != "." and folder.is_dir() else None,
        recipe=stored if stored.is_file() else None,
        mirror=manifest.spec.mirrored,
    )
    return export(request, store, LineReporter(say)).folder


def build_engine(
    checkpoint: Checkpoint,
    backend: str,
    precision: str,
    folder: Path,
    *,
    batch: int = 1,
    images: Sequence[Grey] = (),
    preset: str = PRESETS[0],
) -> Manifest:
    """Write an engine folder as :func:`export` does, without the accuracy gate.

    ``images`` and ``preset`` are for INT8. Raises EngineError, MissingExtra, or what a compiler raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = BuildOrder(checkpoint, precision, batch, images, preset)
    built: BuildResult = import_module(BUILDERS[backend]).build(order, folder)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    manifest = Manifest(
        name=folder.name,
        net=checkpoint.net,
        backend=backend,
        precision=precision,
        folded=True,
        trained=checkpoint.trained,
        spec=checkpoint.spec,
        checkpoint_sha256=checkpoint.sha256,
        files=files,
        batch=batch,
        machine=this_machine(),
        versions=built.versions,
    )
    manifest.write(folder)
    return manifest


def _recipe(request: ExportRequest, checkpoint: Checkpoint) -> tuple[Recipe, Dataset | None]:
    """The recipe and the data set of its images, which is None if phantoms are used."""
    data = None if request.data is None else open_dataset(request.data)
    name = checkpoint.net
    if request.recipe is not None:
        return read_recipe(request.recipe), data
    shipped = RECIPES / f"{name}.json"
    if is_shipped(request.source) and shipped.is_file():
        return read_recipe(shipped), data
    if data is not None and request.data is not None:
        run = RunSplit.read(Path(request.source)) if Path(request.source).exists() else None
        runs = [] if run is None else [run]
        return make_recipe(name, data, data_name=request.data.resolve().name, runs=runs), data
    return phantom_recipe(name), None


@dataclass(frozen=True, slots=True)
class _Work:
    """One build in one precision."""

    request: ExportRequest
    store: EngineStore
    report: Reporter
    checkpoint: Checkpoint
    recipe: Recipe
    origin: str
    """Of the recipe's frames."""
    frames: Callable[[], RecipeFrames]

    def run(self) -> ExportResult:
        draft = self._draft()
        with self.store.lock(engine_name(draft), waiting=self.report.say):
            there = None if self.request.force else _there(self.store, draft)
            return self._build(draft) if there is None else there

    def _draft(self) -> Manifest:
        """The manifest as far as it is known before the build."""
        return Manifest(
            name="",
            net=self.checkpoint.net,
            backend=self.request.backend,
            precision=self.request.precision,
            folded=True,
            trained=self.checkpoint.trained,
            spec=self.checkpoint.spec,
            checkpoint_sha256=self.checkpoint.sha256,
            files={},
            batch=self.request.batch,
            machine=this_machine(),
            source=_lasting(self.request.source),
            calibration=_calibration(self.request, self.recipe, self.origin),
            licence=self.checkpoint.licence,
        )

    def _build(self, draft: Manifest) -> ExportResult:
        _require_torch()
        began = time.monotonic()
        untrained = "" if draft.trained else " (UNTRAINED: random weights)"
        size = f"{draft.spec.height}x{draft.spec.width}"
        self.report.say(f"building {draft.net} for {draft.backend}, {draft.precision}, {size}{untrained}")
        with self.store.staging() as folder:
            built = self._files(folder)
            seconds = time.monotonic() - began
            paths = sorted(folder.iterdir())
            draft = replace(
                draft,
                files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
                versions=built.versions,
                built={
                    "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "seconds": round(seconds, 1),
                    "bytes": sum(path.stat().st_size for path in paths),
                },
            )
            draft = replace(draft, name=engine_name(draft))
            draft.write(folder)
            finished = self._judged(folder, draft)
            finished.write(folder)
            return ExportResult(self.store.publish(folder, finished.name), finished, fresh=True)

    def _files(self, folder: Path) -> BuildResult:
        """Let the builder write the engine, for INT8 with its recipe and the measured scales."""
        int8 = self.request.precision == "int8"
        order = BuildOrder(
            self.checkpoint,
            self.request.precision,
            self.request.batch,
            self.frames().calibration if int8 else (),
            self.recipe.preset,
            self.report.say,
        )
        with redirect_stdout(sys.stderr):  # compilers print their progress to stdout, where results go
            built: BuildResult = import_module(BUILDERS[self.request.backend]).build(order, folder)
        if int8:
            self.recipe.write(folder / RECIPE_FILE)
            write_whole(folder / SCALES_FILE, (json.dumps(built.scales, indent=1) + "\n").encode())
        return built

    def _judged(self, folder: Path, draft: Manifest) -> Manifest:
        """Load the engine and judge it: the manifest with the findings. Raises GateError."""
        engine = load_folder(folder)
        try:
            found: Mapping[str, float] = engine.precision_found()  # type: ignore[attr-defined]
            layers = ", ".join(f"{share:.0%} {name}" for name, share in found.items())
            self.report.say(f"its layers compute in: {layers}")
            gate = self._gate(engine, draft)
            speed = measure_speed(engine)
        finally:
            engine.close()
        return replace(draft, precision_found=found, gate=gate, speed=speed)

    def _gate(self, engine: Backend, draft: Manifest) -> dict[str, Any]:
        frames, reference = self.frames(), EagerBackend(self.checkpoint, "reference")
        try:
            gate = judge(
                engine,
                reference,
                frames.validation,
                precision=draft.precision,
                trained=draft.trained,
                real=min(frames.real, len(frames.validation)),
                track=lambda samples: self.report.track("accuracy gate", samples),
            )
        finally:
            reference.close()
        if not gate["passed"]:
            raise GateError(
                f"the accuracy gate refuses {draft.net} in {draft.precision} on {draft.backend}: "
                f"{'; '.join(gate['reasons'])} ({gate['frames']} frames of {frames.data})"
            )
        return gate | {"data": frames.data}


def _require_torch() -> None:
    """Raise MissingExtra without torch, which the accuracy gate's reference runs on, before work begins."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("judging an engine", "torch", "export") from error


def _lasting(source: str) -> str:
    """The source as a name or absolute path, which means the same in another working folder."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _calibration(request: ExportRequest, recipe: Recipe, origin: str) -> dict[str, Any]:
    if request.precision != "int8":
        return {}
    identity = json.dumps([recipe.digest, origin])
    return {
        "recipe": recipe.name,
        "sha256": hashlib.sha256(identity.encode()).hexdigest(),
        "data": origin,
        "frames": len(recipe.calibration.frames) + recipe.calibration.phantoms,
        "preset": recipe.preset,
        "folder": None if request.data is None else str(request.data.resolve()),
    }


def _there(store: EngineStore, draft: Manifest) -> ExportResult | None:
    """The wanted engine, if the store has it undamaged and it fits this machine."""
    same = ("net", "backend", "precision", "trained", "spec", "checkpoint_sha256", "batch")
    for entry in store.entries():
        found = entry.manifest
        if (
            found is not None
            and all(getattr(found, name) == getattr(draft, name) for name in same)
            and found.calibration.get("sha256") == draft.calibration.get("sha256")
            and not incompatibilities(found)
            and not store.verify(entry.path)
        ):
            return ExportResult(entry.path, found, fresh=False)
    return None
