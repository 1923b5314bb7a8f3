"""INT8 by post-training quantisation (NNCF), from a recipe that can be repeated."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import openvino as ov

from streamseg.errors import MissingExtra
from streamseg.preprocess import to_tensor
from streamseg.types import Grey, InputSpec, Tensor


@dataclass(frozen=True)
class Recipe:
    """What an INT8 engine's scales were measured on. Holds hashes, never pixels."""

    data: str
    """Name of the data set."""
    preset: str
    """NNCF preset: ``performance`` (symmetric) or ``mixed`` (asymmetric activations)."""
    seed: int
    """Seed of the choice of frames."""
    frames: tuple[str, ...]
    """sha256 of each calibration image's grey pixels, in order."""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def frame_hash(image: Grey) -> str:
    """sha256 of an image's shape and pixels."""
    return sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def quantise(model: ov.Model, images: Sequence[Grey], spec: InputSpec, *, preset: str) -> ov.Model:
    """An INT8 model of an FP32 one; activation ranges are measured on ``images`` (each uint8 (H, W)).

    Deterministic: the same model, images and preset give the same model. Raises MissingExtra without NNCF.
    """
    try:
        import nncf
    except ImportError as error:
        raise MissingExtra("INT8 quantisation", "nncf", "export") from error
    logging.getLogger("nncf").setLevel(logging.WARNING)
    tensors: list[Tensor] = [to_tensor(image, spec) for image in images]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(tensors),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(tensors),
        fast_bias_correction=True,
    )
    assert isinstance(quantised, ov.Model)
    return quantised
