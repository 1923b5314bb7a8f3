"""Small real engines for tests."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from streamseg.core.engine_info import EngineInfo
from streamseg.core.hardware import this_processor, versions_of
from streamseg.core.types import InputSpec
from streamseg.engines.manifest import FILE_NAME, SEAL, Manifest, seal_of
from streamseg.engines.store import EngineStore, engine_name

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
DESCRIBED = Manifest(
    "e", "unet", "openvino", "int8", True, True, SPEC, "0" * 64, {}, versions={"openvino": "2026.4.1"}
)
"""A manifest of an engine that does not exist."""


def info_of(spec: InputSpec = SPEC, **changes: Any) -> EngineInfo:
    """The description of an engine on the processor."""
    return EngineInfo(**({"name": "m", "sha256": "0" * 64, "spec": spec, "backend": "small"} | changes))


def small_model(spec: InputSpec = SPEC, outputs: int = 1, scale: float = 2, batch: int = 1) -> ov.Model:
    """Probability is the sigmoid of the input's 3x3 mean times ``scale``."""
    frame = ops.parameter([batch, 1, spec.height, spec.width], np.float32, name="frame")
    kernel = ops.constant(np.full((outputs, 1, 3, 3), scale / 9, np.float32))
    return ov.Model(
        [ops.sigmoid(ops.convolution(frame, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))], [frame], "small"
    )


def write_engine(folder: Path, model: ov.Model | None = None, spec: InputSpec = SPEC) -> Path:
    """An engine folder as the exporter writes it."""
    folder.mkdir()
    ov.save_model(model or small_model(spec), folder / "model.xml", compress_to_fp16=False)
    files = {name: sha256((folder / name).read_bytes()).hexdigest() for name in ("model.xml", "model.bin")}
    Manifest("small", "unet", "openvino", "fp32", True, False, spec, "0" * 64, files, portable=True).write(
        folder
    )
    return folder


def store_engine(
    store: EngineStore, model: ov.Model | None = None, spec: InputSpec = SPEC, **changes: Any
) -> Path:
    """Build an engine into a store as the exporter does, judged to be good; ``changes``: of its manifest."""
    with store.staging() as staged:
        ov.save_model(model or small_model(spec), staged / "model.xml", compress_to_fp16=False)
        files = ("model.xml", "model.bin")
        values: dict[str, Any] = {
            "net": "unet",
            "backend": "openvino",
            "precision": "fp32",
            "folded": True,
            "trained": True,
            "spec": spec,
            "checkpoint_sha256": "0" * 64,
            "files": {name: sha256((staged / name).read_bytes()).hexdigest() for name in files},
            "precision_found": {"fp32": 1.0},
            "machine": this_processor(),
            "versions": versions_of(["openvino"]),
            "source": "unet",
            "gate": {"passed": True, "kind": "masks"},
            "speed": {"ms": 1.0, "ratio": 0.5},
        }
        manifest = Manifest(name="", **(values | changes))
        manifest = replace(manifest, name=engine_name(manifest))
        manifest.write(staged)
        return store.publish(staged, manifest.name)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change values of an engine's manifest and forge its seal."""
    path = folder / FILE_NAME
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values | {SEAL: seal_of(values)}))


def small_unet(width: int = 2) -> dict[str, np.ndarray]:
    """Random weights of a folded U-Net with few channels."""
    generator = np.random.default_rng(0)
    widths = [width * 2**level for level in range(5)]
    stages = {f"encoder.{level}": (widths[level - 1] if level else 1, widths[level]) for level in range(4)}
    stages["bottom"] = (widths[3], widths[4])
    stages |= {
        f"decoder.{level}": (widths[4 - level] + widths[3 - level], widths[3 - level]) for level in range(4)
    }
    shapes = {"head": (1, width, 1, 1)}
    for stage, (inputs, channels) in stages.items():
        shapes[f"{stage}.0.conv"] = (channels, inputs, 3, 3)
        shapes[f"{stage}.1.conv"] = (channels, channels, 3, 3)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = generator.normal(0, 0.3, shape).astype(np.float32)
        weights[f"{name}.bias"] = generator.normal(0, 0.1, shape[0]).astype(np.float32)
    return weights
