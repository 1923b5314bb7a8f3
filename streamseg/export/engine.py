"""Writes engine folders: ``model.xml``, ``model.bin`` and the ``manifest.json`` that vouches for them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import openvino as ov

from streamseg.backends.manifest import Manifest
from streamseg.checkpoint import Checkpoint


def write_engine(
    folder: Path,
    model: ov.Model,
    checkpoint: Checkpoint,
    *,
    precision: str,
    accuracy: Mapping[str, Any],
    versions: Mapping[str, str],
) -> None:
    """Write a model as the engine ``folder.name``, so that the folder is either whole or as it was before.

    ``versions``: of the libraries that took part besides OpenVINO. Raises SinkError or OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        whole = Path(temporary) / "new"
        whole.mkdir()
        ov.save_model(model, whole / "model.xml", compress_to_fp16=False)
        manifest = Manifest(
            name=folder.name,
            net=checkpoint.net,
            backend="openvino",
            precision=precision,
            folded=checkpoint.folded,
            trained=checkpoint.trained,
            spec=checkpoint.spec,
            checkpoint_sha256=checkpoint.sha256,
            files={
                name: sha256((whole / name).read_bytes()).hexdigest() for name in ("model.xml", "model.bin")
            },
            versions={"openvino": ov.get_version(), **versions},
            accuracy=accuracy,
            portable=True,
            source=checkpoint.net,
        )
        manifest.write(whole)
        if folder.exists():
            shutil.move(folder, Path(temporary) / "old")
        whole.rename(folder)
