"""Writes an engine folder: ``model.xml``, ``model.bin`` and the ``manifest.json`` that vouches for them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import openvino as ov


def write_engine(folder: Path, model: ov.Model, manifest: Mapping[str, Any]) -> None:
    """Write an OpenVINO engine atomically: a folder of that name exists whole, or as it was before.

    ``manifest``: everything but ``format``, ``files`` and ``versions``, which are added here.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        ov.save_model(model, temporary / "model.xml", compress_to_fp16=False)
        files = {
            name: sha256((temporary / name).read_bytes()).hexdigest() for name in ("model.xml", "model.bin")
        }
        whole = {
            "format": "streamseg-engine-1",
            **manifest,
            "files": files,
            "versions": {"openvino": ov.get_version()},
        }
        (temporary / "manifest.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
