"""The variants that :mod:`benchmarks.engines` times: engines of the export's builders, torch beside them."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamseg.backends.manifest import Manifest, read_manifest
from streamseg.benchmark.measure import Call
from streamseg.benchmark.provenance import ROOT
from streamseg.checkpoint import Checkpoint
from streamseg.errors import StreamsegError
from streamseg.export.built import BUILDERS, Order
from streamseg.machine import this_machine
from streamseg.nets import build_net, fold
from streamseg.phantom import PhantomVideo, render_still
from streamseg.preprocess import to_tensor
from streamseg.types import Grey, InputSpec, Tensor

PLAIN = "eager fp32, as trained"
"""What all others are compared with."""
ENGINES = (("openvino", "fp32"), ("openvino", "int8"))
ALSO = ("onnx-fp32", "onnx-int8", "compile", "channels-last")
CALIBRATION_SEED, VIDEO_SEED = 0, 3
INPUTS = 4
"""Different inputs, which take turns."""


@dataclass(frozen=True, slots=True, repr=False)
class Variant:
    """A way to run a net on one batch of frames."""

    backend: str
    precision: str
    folded: bool
    call: Call
    precision_found: Mapping[str, float]
    model_bytes: int
    memory: dict[str, Any]
    """For :mod:`benchmarks.engine_memory`: how a process of its own makes the same."""


@dataclass(frozen=True, slots=True)
class Point:
    """One net at one input size and batch."""

    net: str
    height: int
    width: int
    batch: int

    def __str__(self) -> str:
        return f"{self.net} {self.height}x{self.width} batch {self.batch}"


def inputs(spec: InputSpec, batch: int) -> list[Tensor]:
    """Inputs (batch, 1, H, W) of consecutive frames of a phantom video."""
    video = PhantomVideo(VIDEO_SEED, nerve=True)
    frames = [to_tensor(video.frame(number).image, spec) for number in range(INPUTS * batch)]
    return [np.concatenate(frames[k * batch : (k + 1) * batch]) for k in range(INPUTS)]


def calibration(count: int) -> list[Grey]:
    """Images for INT8: speed depends little on them, so a few phantoms serve."""
    return [render_still(CALIBRATION_SEED + number).image for number in range(count)]


def make_variants(  # noqa: PLR0917
    point: Point,
    checkpoint: Checkpoint,
    images: Sequence[Grey],
    scratch: Path,
    threads: int,
    also: Sequence[str],
    say: Callable[[str], None],
) -> tuple[dict[str, Variant], dict[str, str]]:
    """All variants of a point by name, the plain one first, and why any of them is absent."""
    tensors = inputs(checkpoint.spec, point.batch)
    made = {
        PLAIN: eager(point, tensors, folded=False),
        "eager fp32, folded": eager(point, tensors, folded=True),
    }
    absent: dict[str, str] = {}
    if "channels-last" in also:
        made["eager fp32, folded, channels last"] = eager(point, tensors, folded=True, form="channels-last")
    if "compile" in also:
        made["torch.compile fp32, folded"] = eager(point, tensors, folded=True, form="compile")
    wanted = [*ENGINES, *(("onnx", name.partition("-")[2]) for name in also if name.startswith("onnx-"))]
    for backend, precision in wanted:
        name = f"{backend} {precision}"
        say(f"building {name}")
        folder = scratch / name.replace(" ", "-")
        try:
            build(checkpoint, point, backend, precision, images, folder)
            made[name] = engine(folder, tensors, threads)
        except StreamsegError as error:
            absent[name] = str(error)
    return made, absent


def build(  # noqa: PLR0917
    checkpoint: Checkpoint, point: Point, backend: str, precision: str, images: Sequence[Grey], folder: Path
) -> None:
    """Write an engine folder as the export does, but for the accuracy gate."""
    folder.mkdir(parents=True)
    calibrating = images if precision == "int8" else ()
    order = Order(checkpoint, precision, point.batch, calibrating)
    built = import_module(BUILDERS[backend]).build(order, folder)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    Manifest(
        name=folder.name,
        net=checkpoint.net,
        backend=backend,
        precision=precision,
        folded=True,
        trained=checkpoint.trained,
        spec=checkpoint.spec,
        checkpoint_sha256=checkpoint.sha256,
        files=files,
        batch=point.batch,
        machine=this_machine(),
        versions=built.versions,
    ).write(folder)


def load(folder: Path, threads: int) -> Any:
    """The back end of an engine folder."""
    manifest, fingerprint = read_manifest(folder)
    module = import_module(f"streamseg.backends.{manifest.backend}")
    return module.load(folder, manifest, fingerprint, threads=threads)


def engine(folder: Path, tensors: Sequence[Tensor], threads: int) -> Variant:
    """An engine folder as a variant."""
    manifest, _ = read_manifest(folder)
    backend = load(folder, threads)
    turns = itertools.cycle(tensors)
    return Variant(
        manifest.backend,
        manifest.precision,
        True,
        lambda: backend.infer(next(turns)),
        backend.precision_found(),
        sum((folder / name).stat().st_size for name in manifest.files),
        {"folder": str(folder), "shape": list(tensors[0].shape)},
    )


def eager(point: Point, tensors: Sequence[Tensor], *, folded: bool, form: str = "eager") -> Variant:
    """A net in torch with fresh weights: what it costs does not depend on them."""
    net = torch_net(point.net, folded, form)
    turns = itertools.cycle(map(torch.from_numpy, tensors))

    @torch.inference_mode()
    def call() -> object:
        return torch.sigmoid(net(next(turns))).numpy()

    types = {parameter.dtype for parameter in net.parameters()}
    assert types == {torch.float32}
    return Variant(
        "compile" if form == "compile" else "eager",
        "fp32",
        folded,
        call,
        {"fp32": 1.0},
        4 * sum(parameter.numel() for parameter in net.parameters()),
        {"net": point.net, "folded": folded, "form": form, "shape": list(tensors[0].shape)},
    )


def torch_net(name: str, folded: bool, form: str) -> Any:
    """A net that gives logits, as torch runs it."""
    torch.manual_seed(0)
    net: Any = build_net(name).eval().requires_grad_(False)
    net = fold(net) if folded else net
    if form == "channels-last":
        net = net.to(memory_format=torch.channels_last)
    return torch.compile(net) if form == "compile" else net


def peak_memory(variant: Variant, threads: int) -> int | None:
    """Most bytes that a process held which did nothing but load the variant and run it; None if it failed."""
    task = json.dumps({**variant.memory, "threads": threads})
    call = [sys.executable, "-m", "benchmarks.engine_memory", task]
    answer = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT)
    return int(answer.stdout) if answer.returncode == 0 else None
