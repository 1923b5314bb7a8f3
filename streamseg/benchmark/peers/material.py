"""What is given to every runtime and every net of a comparison, and how their answers are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.benchmark.flops import work_of
from streamseg.benchmark.peers.peer import Peer, need, version
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import Backend, Tensor
from streamseg.engines.checkpoint import Checkpoint
from streamseg.evaluation.overlap import Confusion
from streamseg.export.gate import PROBABILITY, ROUGH_MASK_DICE
from streamseg.phantom import PhantomVideo
from streamseg.segmentation.preprocess import to_tensor

Probability = npt.NDArray[np.float32]
Infer = Callable[[Tensor], Probability]

OURS_FP32, OURS_INT8 = "streamseg, OpenVINO FP32", "streamseg, OpenVINO INT8"
PROBE: Mapping[str, Any] = {"height": 420, "width": 580, "fps": 30, "nerve": True}
PROBE_SEEDS = (3, 5, 8, 13)
EXACT = 1e-3
"""FP32: largest difference of any pixel's probability from the reference's."""


@dataclass(repr=False)
class Material:
    """What the runtimes have in common."""

    checkpoint: Checkpoint
    """Folded, at the size that is measured."""
    tensors: Sequence[Tensor]
    """The frames, as they enter the net; at least one."""
    threads: int
    folder: Path
    """Scratch."""
    calibration: Sequence[Tensor] = ()
    """Other frames: those that a peer's INT8 is calibrated on."""

    @property
    def size(self) -> tuple[int, int]:
        return self.checkpoint.spec.height, self.checkpoint.spec.width

    @cached_property
    def checks(self) -> Sequence[Tensor]:
        """What answers are compared on: the frames, and behind them phantoms with a nerve."""
        probes = [PhantomVideo(seed, **PROBE).frame(0).image for seed in PROBE_SEEDS]
        return [*self.tensors, *(to_tensor(image, self.checkpoint.spec) for image in probes)]

    @cached_property
    def reference(self) -> Sequence[Probability]:
        """Torch's answers to them, eager FP32; without torch those of our FP32 engine."""
        try:
            engine = self.torch_engine("eager")
        except MissingExtra:
            engine = self.own_engine()
        return [engine.infer(tensor) for tensor in self.checks]

    @cached_property
    def onnx(self) -> Path:
        """Our ONNX file of the net."""
        for package in ("torch", "onnx", "onnxscript"):
            need("writing the ONNX file that peers read", package)
        from streamseg.export.builders.onnx import export_onnx
        from streamseg.nets.inference import inference_net

        path = self.folder / "model.onnx"
        export_onnx(inference_net(self.checkpoint), (1, 1, *self.size), path)
        return path

    @cached_property
    def gflop(self) -> float | None:
        """Work of one frame; None without torch, which counts it."""
        try:
            return work_of(self.checkpoint.net, *self.size).flop / 1e9
        except MissingExtra:
            return None

    def torch_engine(self, form: str) -> Backend:
        """Raises MissingExtra without torch, and EngineError."""
        need("the peer torch", "torch")
        from streamseg.benchmark.torch_engine import TorchEngine

        return TorchEngine(self.checkpoint, folded=True, form=form, threads=self.threads)

    def own_engine(self) -> Backend:
        """Our FP32 engine. Raises EngineError."""
        return OpenVINOBackend.from_checkpoint(self.checkpoint, OURS_FP32, threads=self.threads)

    def start(self, *, onnx: bool = False) -> float:
        """Make what runtimes share, so that none is charged with it; when its own part begins, seconds."""
        _ = self.reference, self.gflop, onnx and self.onnx
        return time.monotonic()


def agreement(
    infer: Infer,
    tensors: Sequence[Tensor],
    reference: Sequence[Probability],
    *,
    precision: str,
    threshold: float,
    masks: bool = True,
) -> dict[str, float]:
    """How far the answers are from the reference's: ``difference``, the largest of any pixel's probability,
    and ``mask_dice``, the mean Dice between the masks at ``threshold``, which mean nothing (``masks`` False)
    where weights are random. Masks are compared in the last ``len(PROBE_SEEDS)`` pictures, which show a
    nerve: in a clip without one they are a net's false alarms, small and of another shape in each precision.

    Raises EngineError where it is too far: FP32 has to give the same numbers, lower precisions the same
    masks.
    """
    answers = [infer(tensor) for tensor in tensors]
    for answer, expected in zip(answers, reference, strict=True):
        if answer.shape != expected.shape or not np.isfinite(answer).all():
            raise EngineError(f"it gives maps {answer.shape} that are no probabilities {expected.shape}")
    apart = [np.abs(answer - expected) for answer, expected in zip(answers, reference, strict=True)]
    difference = float(max(map(np.max, apart)))
    mean = float(max(map(np.mean, apart)))
    dice = float(
        np.mean(
            [
                Confusion.count(a > threshold, b > threshold).dice
                for a, b in list(zip(answers, reference, strict=True))[-len(PROBE_SEEDS) :]
            ]
        )
    )
    exact = precision == "fp32"
    if (exact and difference > EXACT) or mean > PROBABILITY[precision] or (masks and dice < ROUGH_MASK_DICE):
        raise EngineError(
            f"it computes something else: probabilities differ from torch's by up to {difference:.3g}, "
            f"masks have Dice {dice:.3f}"
        )
    return {"difference": difference, "mask_dice": dice}


def runtime_peer(
    material: Material,
    name: str,
    infer: Infer,
    *,
    began: float,
    against: str = OURS_FP32,
    precision: str = "fp32",
    package: str,
    remark: str,
) -> Peer:
    """Check what a loaded runtime gives, and make a peer of it. ``began`` is when its loading did."""
    infer(material.tensors[0])
    ready_s = time.monotonic() - began
    found = agreement(
        infer,
        material.checks,
        material.reference,
        precision=precision,
        threshold=material.checkpoint.spec.threshold,
    )
    turns = cycle(material.tensors)

    def call() -> int:
        infer(next(turns))
        return 1

    facts = {**found, "gflop": material.gflop, "ready_s": ready_s}
    return Peer(name, against, precision, call, version=version(package), remark=remark, facts=facts)
