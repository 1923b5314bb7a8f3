"""Weights on disk: one safetensors file, readable without torch and without running code from the file.

The file's metadata (text values) hold what is needed to use the weights::

    format   "streamseg-checkpoint-1"
    net      "unet", "segnet", "improved_unet" or "lite_unet"
    folded   "true" if BatchNorm is folded away; weights are then stored as float16
    trained  "false" for random weights, which only serve to measure speed
    licence  licence note of the data that they were trained on, if there is one
    restyled "true" if they were trained on restyled images, too
    spec     JSON of the InputSpec

Unfolded weights stay float32, because a running variance can underflow in float16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError
from streamseg.core.files import read_file, write_whole
from streamseg.core.types import InputSpec

FORMAT = "streamseg-checkpoint-1"
MAX_BYTES = 2 << 30
"""Limit on the bytes of a checkpoint; the largest net has 127 MB."""
MULTIPLES = {"unet": 16, "segnet": 32, "improved_unet": 16, "lite_unet": 32}
"""By net: the sides of its input are multiples of this, because each pooling, or convolution of
stride 2, halves them."""
NETS = tuple(MULTIPLES)
"""The nets, by the name that a checkpoint and ``build_net`` know them by."""

Weights = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, repr=False)
class Checkpoint:
    """A net's weights with everything needed to use them."""

    net: str
    """Name for ``build_net``: unet, segnet, improved_unet or lite_unet."""
    folded: bool
    """True for the inference form: no BatchNorm, no shortcut."""
    trained: bool
    """False for random weights."""
    spec: InputSpec
    weights: Weights
    """Arrays by state-dict name, as stored but with float16 widened to float32."""
    sha256: str
    """Of the file, 64 hex digits."""
    licence: str = ""
    """Licence note of the data that the weights were trained on; empty if none was given."""
    restyled: bool = False
    """Whether they were trained on restyled images (:mod:`streamseg.training.restyle`), too, so that images
    of other machines are like their training data."""

    def info(
        self, name: str, backend: str, *, precision: str = "fp32", batch: int = 1, device: str = "cpu"
    ) -> EngineInfo:
        """The description of an engine that a back end makes of these weights."""
        return EngineInfo(
            name=name,
            sha256=self.sha256,
            spec=self.spec,
            backend=backend,
            precision=precision,
            batch=batch,
            trained=self.trained,
            device=device,
        )

    def __repr__(self) -> str:
        return f"Checkpoint({self.net}, folded={self.folded}, {len(self.weights)} arrays, {self.sha256[:12]})"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint. Raises EngineError if it is missing, damaged or of another kind."""
    path = Path(path)
    try:
        data = read_file(path, MAX_BYTES)
    except OSError as error:
        raise EngineError(
            f"cannot read checkpoint {path}: {error.strerror or error}; give a .safetensors file"
        ) from error
    metadata = _metadata(data, path)
    try:
        stored = safetensors.numpy.load(data)
        weights = {name: _widened(name, array) for name, array in stored.items()}
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"checkpoint {path} is damaged ({error}); copy or export it again") from error
    spec = InputSpec.from_json(metadata["spec"])
    _check_planes(weights, spec, f"checkpoint {path}")
    return Checkpoint(
        net=metadata["net"],
        folded=metadata["folded"] == "true",
        trained=metadata["trained"] == "true",
        spec=spec,
        weights=weights,
        sha256=hashlib.sha256(data).hexdigest(),
        licence=metadata.get("licence", ""),
        restyled=metadata.get("restyled") == "true",
    )


def _metadata(data: bytes, path: Path) -> dict[str, str]:
    """The text values in the file's header. Raises EngineError unless they are ours and complete."""
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        metadata = {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise EngineError(
            f"{path} is not a safetensors file, or a damaged one; copy or export it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise EngineError(
            f"{path} holds weights of format {metadata.get('format', 'unknown')!r}, this version reads "
            f"{FORMAT!r}; give a checkpoint written by streamseg"
        )
    missing = [key for key in ("net", "folded", "trained", "spec") if key not in metadata]
    if missing or metadata["net"] not in NETS:
        wrong = f"lacks {', '.join(missing)}" if missing else f"is for an unknown net {metadata['net']!r}"
        raise EngineError(f"checkpoint {path} {wrong}; export it again with this version")
    return metadata


def _check_planes(weights: Mapping[str, npt.NDArray[Any]], spec: InputSpec, what: str) -> None:
    """Raise EngineError unless the head has one output for each structure of the specification."""
    head = weights.get("head.weight")
    if head is not None and head.shape[:1] != (len(spec.structures),):
        raise EngineError(
            f"{what} has a head {head.shape} for the structures {', '.join(spec.structures)}, which take one "
            "output each; export it again with this version"
        )


def _widened(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def write_checkpoint(
    path: str | Path,
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    net: str,
    folded: bool,
    trained: bool,
    spec: InputSpec,
    licence: str = "",
    restyled: bool = False,
) -> str:
    """Write a checkpoint whole or not at all: after any failure the file is as it was before.

    Folded weights are rounded to float16, others are stored as they are. Returns the file's sha256.
    Raises EngineError for weights that cannot be stored or do not fit ``spec``, SinkError if writing fails.
    """
    path = Path(path)
    if net not in NETS:
        raise EngineError(f"no net is called {net!r}; a checkpoint is for one of {', '.join(NETS)}")
    _check_planes(weights, spec, f"the checkpoint {path.name}")
    stored = {name: _stored(name, np.asarray(array), folded) for name, array in weights.items()}
    metadata = {
        "format": FORMAT,
        "net": net,
        "folded": str(folded).lower(),
        "trained": str(trained).lower(),
        "spec": json.dumps(spec.to_json()),
        **({"licence": licence} if licence else {}),
        **({"restyled": "true"} if restyled else {}),
    }
    data = _ordered(safetensors.numpy.save(stored, metadata))
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def _ordered(data: bytes) -> bytes:
    """The file's bytes with the metadata sorted, so that equal weights have equal hashes.

    safetensors writes metadata in an order that changes from run to run.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _stored(name: str, array: npt.NDArray[Any], folded: bool) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        if folded and array.dtype.kind == "f":
            array = array.astype(np.float16)
    if not np.isfinite(array).all():
        raise EngineError(f"weight {name} is not finite or too large to store; the training has diverged")
    return np.asarray(array, order="C")
