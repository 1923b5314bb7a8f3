"""The manifest of an engine folder: ``manifest.json`` beside the engine's files.

It names the sha256 of every file and of its own values, so that nothing in the folder can be swapped or
altered unnoticed. Files are hashed before anything parses them, and the bytes that were hashed are the ones
used. The sha256 of ``manifest.json`` identifies the engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError
from streamseg.core.files import parse_json, read_file, write_whole
from streamseg.core.hardware import Machine
from streamseg.core.numbers import finite_number
from streamseg.core.types import InputSpec

FORMAT = "streamseg-engine-2"
FILE_NAME = "manifest.json"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MAX_BYTES, MAX_ENGINE_BYTES = 1 << 20, 2 << 30
"""Of a manifest, and of each of an engine's files."""
MAX_BATCH, MAX_NUMBER = 4096, 10**15
SEAL = "manifest_sha256"
"""Key of the manifest's own hash, made of its other values as JSON with sorted keys and without spaces."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of an engine. Field names are those of the JSON file."""

    name: str
    """The folder's name in the store, such as ``improved_unet-openvino-int8-192x224-b1-0a1b2c3d``."""
    net: str
    """unet, segnet, improved_unet or lite_unet."""
    backend: str
    """What runs it: openvino, onnx, tensorrt or compiled."""
    precision: str
    """The precision asked for, one of PRECISIONS."""
    folded: bool
    trained: bool
    """False for random weights, which only serve to measure speed."""
    spec: InputSpec
    checkpoint_sha256: str
    """Of the checkpoint that the engine was built from."""
    files: Mapping[str, str]
    """sha256 (64 hex digits) by file name inside the folder."""
    batch: int = 1
    """Frames per call: the input is (batch, 1, height, width)."""
    precision_found: Mapping[str, float] = field(default_factory=dict)
    """Share of the engine's layers, 0..1, by the type that they compute in, read from the loaded engine."""
    portable: bool = False
    """True for the engines that ship with the package: they run wherever the back end runs."""
    machine: Machine | None = None
    """The machine that it was built and judged on; None only for portable engines."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that built it and run it, by package."""
    source: str = ""
    """NET_OR_CHECKPOINT of the export, for building it again: a net's name or a checkpoint's path."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """INT8: ``recipe`` (name), ``sha256`` (of the recipe), ``data`` (origin of the frames), ``frames`` (their
    number), ``preset``. Empty for other precisions."""
    gate: Mapping[str, Any] = field(default_factory=dict)
    """The accuracy gate's result: ``passed`` (bool), ``kind`` (masks or probabilities), the nerve's figures
    and limits, and ``structures`` with those of other structures by name."""
    speed: Mapping[str, Any] = field(default_factory=dict)
    """Measured when it was built: ``ms`` (median per call) and, if they are comparable, ``ratio`` of its time
    to the shipped engine's, the two measured interleaved."""
    built: Mapping[str, Any] = field(default_factory=dict)
    """``date`` (UTC), ``seconds`` that the build took, ``bytes`` of all files."""
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    """Further figures measured at export, for human readers."""
    licence: str = ""
    """Licence note of the data that the weights were trained on; empty if none was given."""

    @property
    def passed(self) -> bool:
        """Whether the engine passed the accuracy gate."""
        return self.gate.get("passed") is True

    def info(self, fingerprint: str, *, device: str = "cpu") -> EngineInfo:
        """The description of the loaded engine; ``fingerprint`` is the sha256 of the manifest's file."""
        return EngineInfo(
            name=self.name,
            sha256=fingerprint,
            spec=self.spec,
            backend=self.backend,
            precision=self.precision,
            batch=self.batch,
            trained=self.trained,
            device=device,
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON file's values with their seal; an unknown licence is left out, as in older files."""
        values: dict[str, Any] = {"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__}
        if not self.licence:
            del values["licence"]
        values["spec"] = self.spec.to_json()
        values["machine"] = None if self.machine is None else self.machine.to_json()
        # As it will be read again: the seal must not depend on what JSON cannot distinguish.
        values = json.loads(json.dumps(values))
        return values | {SEAL: seal_of(values)}

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into an engine folder. Raises SinkError."""
        write_whole(folder / FILE_NAME, (json.dumps(self.to_json(), indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """A manifest read from disk."""

    manifest: Manifest
    sha256: str
    """Of the file: the engine's fingerprint."""
    sealed: bool
    """False if the file was altered after it was written."""


def read_unchecked(folder: Path) -> ReadManifest:
    """Read a manifest and check its seal without insisting on it. Raises EngineError."""
    path = folder / FILE_NAME
    data = _bytes(path, "an engine is a folder with manifest.json and the engine's files", MAX_BYTES)
    try:
        values = parse_json(data, strict=False)
        if values.get("format") != FORMAT:
            raise EngineError(
                f"{path} is of format {values.get('format')!r}, this version reads {FORMAT!r}; "
                "export the engine again"
            )
        seal = values.pop(SEAL, None)
        sealed = seal == seal_of(values)
        values["spec"] = InputSpec.from_json(values["spec"])
        machine = values.get("machine")
        values["machine"] = None if machine is None else Machine.from_json(machine)
        manifest = Manifest(**{name: values[name] for name in Manifest.__slots__ if name in values})
        _check(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineError(f"manifest {path} is damaged ({error!r}); export the engine again") from error
    return ReadManifest(manifest, hashlib.sha256(data).hexdigest(), sealed)


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Read a manifest and the sha256 of its file. Raises EngineError, also for an altered one."""
    found = read_unchecked(folder)
    if not found.sealed:
        raise altered(folder)
    return found.manifest, found.sha256


def altered(folder: Path) -> EngineError:
    """The error for a manifest whose seal is broken."""
    return EngineError(
        f"manifest {folder / FILE_NAME} was altered after it was written; copy or export the engine again"
    )


def seal_of(values: Mapping[str, Any]) -> str:
    """sha256 of a manifest's values without its seal."""
    text = json.dumps({k: v for k, v in values.items() if k != SEAL}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(manifest: Manifest) -> None:
    """Raise ValueError for field types that would fail later and less clearly."""
    texts = (
        *(manifest.name, manifest.net, manifest.backend, manifest.checkpoint_sha256, manifest.source),
        manifest.licence,
        *manifest.files.values(),
        *manifest.versions.values(),
    )
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is not text")
    if any(Path(name).name != name or name == ".." for name in manifest.files):
        raise ValueError("a file lies outside the folder")
    if manifest.precision not in PRECISIONS:
        raise ValueError(f"precision {manifest.precision!r} is not one of {', '.join(PRECISIONS)}")
    if type(manifest.batch) is not int or not 1 <= manifest.batch <= MAX_BATCH:
        raise ValueError(f"batch {manifest.batch!r} is not a number of frames")
    if not all(isinstance(flag, bool) for flag in (manifest.folded, manifest.trained, manifest.portable)):
        raise ValueError("a flag is neither true nor false")
    if any(finite_number(share, 0, 1) is None for share in manifest.precision_found.values()):
        raise ValueError("a share of layers is not a number")
    for mapping in (
        manifest.calibration,
        manifest.gate,
        manifest.speed,
        manifest.built,
        manifest.accuracy,
    ):
        mapping.items()
    for figures in (manifest.gate, manifest.speed, manifest.built):  # these are computed with
        if any(isinstance(value, int) and abs(value) > MAX_NUMBER for value in figures.values()):
            raise ValueError("a figure is too large")


def read_verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Read one of the engine's files and check its sha256 against the manifest. Raises EngineError."""
    data = _bytes(folder / name, "copy or export the engine again")
    expected = manifest.files.get(name)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise EngineError(
            f"{folder / name} is not the file that the manifest describes (sha256 {found[:12]}..., "
            f"expected {str(expected)[:12]}...); copy or export the engine again"
        )
    return data


def _bytes(path: Path, remedy: str, max_bytes: int = MAX_ENGINE_BYTES) -> bytes:
    try:
        return read_file(path, max_bytes)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}; {remedy}") from error
