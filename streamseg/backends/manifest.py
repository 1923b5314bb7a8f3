"""What an engine folder says about itself: ``manifest.json`` beside ``model.xml`` and ``model.bin``.

The manifest names the sha256 of both files, so that its own sha256 identifies the engine. Files are
hashed before anything parses them, and what was hashed is what is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamseg.errors import EngineError, SinkError
from streamseg.types import InputSpec

FORMAT = "streamseg-engine-1"
FILE_NAME = "manifest.json"
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of an engine. Field names are those of the JSON file."""

    name: str
    net: str
    backend: str
    """Which back end runs it: ``openvino``."""
    precision: str
    """``fp32`` or ``int8``."""
    folded: bool
    trained: bool
    """False for random weights, which only serve to measure speed."""
    spec: InputSpec
    checkpoint_sha256: str
    """Of the checkpoint that the engine was exported from."""
    files: Mapping[str, str]
    """sha256 (64 hex digits) by file name inside the folder."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that exported it."""
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    """Figures measured at export, for people."""

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into an engine folder. Raises SinkError."""
        values = {"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__}
        values["spec"] = self.spec.to_json()
        try:
            (folder / FILE_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise SinkError(f"cannot write {folder / FILE_NAME}: {error.strerror or error}") from error


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of an engine folder and the sha256 of its file. Raises EngineError."""
    path = folder / FILE_NAME
    data = _bytes(path, "an engine is a folder with manifest.json, model.xml and model.bin")
    try:
        values = json.loads(data)
        kind = values.pop("format", None)
        if kind != FORMAT:
            raise EngineError(
                f"{path} is of format {kind!r}, this version reads {FORMAT!r}; export the engine again"
            )
        values["spec"] = InputSpec.from_json(values["spec"])
        manifest = Manifest(**{name: values[name] for name in Manifest.__slots__ if name in values})
        _check(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineError(f"manifest {path} is damaged ({error!r}); export the engine again") from error
    return manifest, hashlib.sha256(data).hexdigest()


def _check(manifest: Manifest) -> None:
    """Raise ValueError for field types that would fail later and less clearly."""
    texts = (manifest.name, manifest.net, manifest.backend, *manifest.files, *manifest.files.values())
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is not text")
    if manifest.precision not in PRECISIONS:
        raise ValueError(f"precision {manifest.precision!r} is none of {', '.join(PRECISIONS)}")


def read_verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Contents of one of the engine's files, its sha256 checked against the manifest. Raises EngineError."""
    data = _bytes(folder / name, "copy or export the engine again")
    expected = manifest.files.get(name)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise EngineError(
            f"{folder / name} is not the file that the manifest describes (sha256 {found[:12]}..., "
            f"expected {str(expected)[:12]}...); copy or export the engine again"
        )
    return data


def _bytes(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}; {remedy}") from error
