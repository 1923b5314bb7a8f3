"""Real parts, small: an engine that calls bright pixels nerve, and clips of a bright disc on dark ground."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2

# isort: split
import av
import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
from openvino import opset13 as ops

from streamseg.core.types import InputSpec
from streamseg.datasets import RunSplit
from streamseg.engines.manifest import Manifest, read_manifest

HEIGHT, WIDTH, RATE = 64, 96, 25
ClipWriter = Callable[..., Path]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine folder: grey levels above the middle are nerve. Its input has the size of the clips."""
    folder = tmp_path_factory.mktemp("engines") / "bright"
    folder.mkdir()
    frame = ops.parameter([1, 1, HEIGHT, WIDTH], np.float32, name="frame")
    level = ops.multiply(ops.subtract(frame, np.float32(0.5)), np.float32(20))
    ov.save_model(ov.Model([ops.sigmoid(level)], [frame]), folder / "model.xml", compress_to_fp16=False)
    Manifest(
        name="bright",
        net="unet",
        backend="openvino",
        precision="fp32",
        folded=True,
        trained=True,
        spec=InputSpec(HEIGHT, WIDTH, mean=0.0, std=1.0, threshold=0.5),
        checkpoint_sha256="0" * 64,
        portable=True,
        files={
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.xml", "model.bin")
        },
    ).write(folder)
    return folder


def trained_engine(engine: Path, run: Path, split: RunSplit) -> Path:
    """The engine as one that was exported from a run's weights, and the run's folder with its split."""
    exported = Path(shutil.copytree(engine, run / "exported"))
    manifest = read_manifest(exported)[0]
    replace(manifest, source=str(run / "weights.safetensors")).write(exported)
    split.write(run)
    return exported


def disc(index: int) -> npt.NDArray[np.uint8]:
    """Frame of a clip, BGR: a bright disc that moves to the right; none in every fifth frame."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    if index % 5:
        cv2.circle(image, (20 + index % 50, 32), 12, (220, 220, 220), -1)
    return image


@pytest.fixture
def write_clip() -> ClipWriter:
    """A function that writes a clip: path, number of frames."""

    def write(path: Path, frames: int = 20) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.time_base = Fraction(1, RATE)
            stream.codec_context.gop_size = 5
            for index in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(disc(index), format="bgr24")))
            container.mux(stream.encode())
        return path

    return write


def count_frames(path: Path) -> int:
    """Frames that can be decoded from a video, which has to end well."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
