"""How the nets' benchmark runs a subject: on what frames, in what pipeline, on what device."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from streamseg.backends.fake import ellipse
from streamseg.benchmark.nets.plan import EAGER_GPU, ON_GPU
from streamseg.benchmark.pipeline.clip import Clip
from streamseg.benchmark.subject import EAGER, Subject
from streamseg.core.types import Backend, Tensor
from streamseg.segmentation.preprocess import to_tensor
from streamseg.segmentation.segmenter import Segmenter

INPUTS = 4
"""Different inputs of an engine, which take turns."""


class Outlined:
    """An engine of random weights that runs as it is, and answers with a made-up nerve.

    Its own answers are noise: hundreds of outlines, whose drawing would cost what no trained net's does.
    """

    def __init__(self, engine: Backend) -> None:
        self.name, self.fingerprint, self.spec = engine.name, engine.fingerprint, engine.spec
        self._engine, self._nerve = engine, ellipse(engine.spec)

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """The made-up probability, once the engine has given its own."""
        self._engine.infer(tensor)
        return self._nerve.copy()

    def close(self) -> None:
        """The engine belongs to somebody else."""


def segmenter_of(subject: Subject) -> Segmenter:
    """What the whole pipeline runs a subject by; the clip says where the image is."""
    return Segmenter(subject.engine if subject.trained else Outlined(subject.engine))


def inputs(subject: Subject, clip: Clip) -> list[Tensor]:
    """Inputs (batch, 1, H, W) of consecutive frames of a clip."""
    point, spec = subject.point, subject.engine.spec
    turns = itertools.cycle(clip.frames)
    frames = [next(turns).image for _ in range(INPUTS * point.batch)]
    images = frames if clip.roi is None else [clip.roi.crop(frame) for frame in frames]
    tensors = [to_tensor(image, spec) for image in images]
    return [np.concatenate(tensors[k * point.batch : (k + 1) * point.batch]) for k in range(INPUTS)]


def is_reference(subject: Subject) -> bool:
    """Whether others on its device are compared with it: torch eager FP32 as trained."""
    return subject.backend in (EAGER, EAGER_GPU) and subject.precision == "fp32" and not subject.folded


def on_gpu(subject: Subject) -> bool:
    """Whether it runs on a GPU."""
    runner: Any = getattr(subject.engine, "runner", None)
    return subject.backend in ON_GPU or getattr(getattr(runner, "device", None), "type", "cpu") == "cuda"
