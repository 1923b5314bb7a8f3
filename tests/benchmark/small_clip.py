"""A small clip, encoded, for tests of what runs on clips."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from streamseg.benchmark.clip import Clip
from streamseg.capture import open_source
from streamseg.core.types import Roi
from streamseg.sinks.encoder import Encoder
from streamseg.sinks.target import Target

HEIGHT, WIDTH, FRAMES, RATE = 96, 160, 12, 30
REGION = Roi(16, 8, 128, 80)


def write_clip(path: Path, frames: int = FRAMES) -> Path:
    """An H.264 file of grey noise that moves."""
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    encoder = Encoder(Target(path, force=True), HEIGHT, WIDTH, Fraction(1, RATE), Fraction(RATE))
    for number in range(frames):
        encoder.encode(np.roll(noise, number, axis=1), Fraction(number, RATE))
    encoder.close()
    return path


def small_clip(folder: Path) -> Clip:
    """The same, opened."""
    path = write_clip(folder / "small.mp4")
    with open_source(path) as source:
        frames = tuple(source)
    return Clip(str(path), path.name, frames, REGION, synthetic=False, rate=RATE)
