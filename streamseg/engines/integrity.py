"""Integrity of engine folders: name, seal, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from streamseg.core.errors import EngineError
from streamseg.engines.compatibility import identity
from streamseg.engines.manifest import FILE_NAME, Manifest, read_unchecked

_NAME = re.compile(r"[a-z_]+-[a-z]+-[a-z0-9]+-\d+x\d+-b\d+-[0-9a-f]{8}")


def engine_name(manifest: Manifest) -> str:
    """The name of an engine's folder: its main properties, and a key of everything that distinguishes it."""
    values = {
        "checkpoint": manifest.checkpoint_sha256,
        "net": manifest.net,
        "folded": manifest.folded,
        "trained": manifest.trained,
        "spec": manifest.spec.to_json(),
        "batch": manifest.batch,
        "backend": manifest.backend,
        "precision": manifest.precision,
        "calibration": manifest.calibration.get("sha256"),
        **identity(manifest),
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    spec = manifest.spec
    return (
        f"{manifest.net}-{manifest.backend}-{manifest.precision}-{spec.height}x{spec.width}"
        f"-b{manifest.batch}-{key}"
    )


def is_engine_name(name: str) -> bool:
    """Whether a name has the form that :func:`engine_name` gives."""
    return _NAME.fullmatch(name) is not None


def problems(folder: Path) -> list[str]:
    """Problems of an engine's folder, each a human-readable phrase; empty if it is as it was built.

    Reads every file. A portable engine may have any name.
    """
    try:
        found = read_unchecked(folder)
    except EngineError as error:
        return [str(error)]
    manifest = found.manifest
    wrong = [] if found.sealed else [f"{FILE_NAME} was altered after it was written"]
    for file, expected in sorted(manifest.files.items()):
        wrong += _file_problems(folder / file, expected)
    extra = sorted({path.name for path in folder.iterdir()} - {FILE_NAME, *manifest.files})
    wrong += [f"{file} does not belong to the engine" for file in extra]
    if folder.name != manifest.name:
        wrong.append(f"the folder is called {folder.name}, its engine {manifest.name}")
    if not manifest.portable and manifest.name != engine_name(manifest):
        wrong.append(f"the engine is called {manifest.name}, it should be {engine_name(manifest)}")
    if not manifest.passed and (manifest.gate or not manifest.portable):
        wrong.append("it did not pass the accuracy gate")
    return wrong


def _file_problems(path: Path, expected: str) -> list[str]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return [f"{path.name} is missing"]
    except OSError as error:
        return [f"{path.name} cannot be read: {error.strerror or error}"]
    if digest == expected:
        return []
    return [f"{path.name} is damaged or another file (sha256 {digest[:12]}..., expected {expected[:12]}...)"]
