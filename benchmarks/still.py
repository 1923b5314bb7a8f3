"""How far live pictures and frozen ones lie from the limit of ``streamseg.live.freeze_detector``, and what looking costs.

    python benchmarks/still.py [--clips DIR] [--json FILE]

For each frame as reference, the largest ``change`` within the second after it, in parts of the limit: above
1 the scanner is live. A live source is safe where its least is above 1, a frozen one is caught where its most
is below 1. Live: phantoms that stand still, whose probe stays but whose hand and heart do not; the same with
half the gain; phantoms that slide; the clips (those that last longer than a second). Frozen: one picture of a
clip and of a phantom for three seconds, after what a grabber or a codec does to it (H.264 without its first):

- Gaussian noise, fresh in each frame, in grey levels; ``coarse`` is correlated over about two pixels
- H.264, a key frame every half second, ``tune=zerolatency``
- motion JPEG of a quality that is drawn for each frame

The cost is processor time of ``look`` on a colour region of 729x582.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2  # isort: skip  (before av: in the other order a window would hang)
import av
import numpy as np

from streamseg.capture import open_source
from streamseg.capture.phantom import PhantomSource
from streamseg.capture.screen.find import find_region
from streamseg.core.types import Grey
from streamseg.live.freeze_detector import StillWatch, change, shrunk
from streamseg.segmentation.preprocess import to_grey

CLIPS = Path(__file__).resolve().parents[2] / "shared/data/clips"
SEEDS = range(70_100, 70_116)
FRAMES = 90
FPS = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    clips = {path.stem: clip(path) for path in sorted(options.clips.glob("*.mp4"))}
    rows: dict[str, list[float]] = {}
    for name, pictures, fps in live(clips):
        rows.setdefault(f"live: {name}", []).extend(changes(pictures, fps))
    with PhantomSource(seed=70_200, frames=1) as source:
        models = [frame.image for frame in source]
    models += [pictures[0] for pictures, _ in clips.values()][:1]
    for model in models:
        for name, pictures in frozen(model):
            rows.setdefault(f"frozen: {name}", []).extend(changes(pictures, FPS))
    found = {
        name: {
            "references": len(values),
            **{key: round(float(np.quantile(values, q)), 3) for key, q in QUANTILES.items()},
        }
        for name, values in rows.items()
    }
    for name, row in found.items():
        print(f"{name:44} least {row['least']:6.2f}  median {row['median']:6.2f}  most {row['most']:6.2f}")
    median, tail = cost()
    print(f"look: {median:.2f} ms median, {tail:.2f} ms at the 95th percentile")
    if options.json:
        whole = {
            "what": "change within a second, in parts of the limit",
            "rows": found,
            "look_ms": [median, tail],
        }
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


QUANTILES = {"least": 0.0, "median": 0.5, "most": 1.0}


def clip(path: Path) -> tuple[list[Grey], float]:
    """The ultrasound image of a clip's frames, and their rate."""
    with open_source(path) as source:
        images = [frame.image for frame in source]
        rate = float(source.info.rate or 30)
    region = find_region(images[::10])
    assert region is not None
    return [to_grey(region.crop(image)) for image in images], rate


def live(clips: dict[str, tuple[list[Grey], float]]) -> Iterator[tuple[str, list[Grey], float]]:
    for pictures, rate in clips.values():
        yield "clips", pictures, rate
    for seed in SEEDS:
        for name, nerve in (("phantoms at rest", True), ("phantoms, sliding", None)):
            with PhantomSource(seed=seed, frames=FRAMES, nerve=nerve) as source:
                pictures = [frame.image for frame in source]
            yield name, pictures, FPS
            if nerve:
                yield f"{name}, half gain", [picture // 2 for picture in pictures], FPS
                yield f"{name}, H.264 300 kbit/s", h264(pictures, 300_000), FPS


def frozen(picture: Grey) -> Iterator[tuple[str, list[Grey]]]:
    rng = np.random.default_rng(0)

    def noisy(sigma: float, blur: float = 0.0) -> list[Grey]:
        pictures = []
        for _ in range(FRAMES):
            noise = rng.normal(0, sigma, picture.shape)
            if blur:
                noise = cv2.GaussianBlur(noise, (0, 0), blur)
                noise *= sigma / noise.std()
            pictures.append(np.clip(picture + noise + 0.5, 0, 255).astype(np.uint8))
        return pictures

    yield "the same bytes", [picture] * FRAMES
    yield "noise 1", noisy(1)
    yield "noise 2", noisy(2)
    yield "noise 2, coarse", noisy(2, 1.0)
    for bit_rate in (200_000, 500_000, 1_000_000, 3_000_000):
        yield f"H.264 {bit_rate // 1000} kbit/s", h264([picture] * (FRAMES + 30), bit_rate)[30:]
    yield "noise 1, H.264 500 kbit/s", h264([*noisy(1), *noisy(1)[:30]], 500_000)[30:]
    for least in (60, 30):
        qualities = rng.integers(least, 96, FRAMES)
        yield f"motion JPEG, quality {least} to 95", [jpeg(picture, int(quality)) for quality in qualities]


def jpeg(picture: Grey, quality: int) -> Grey:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def h264(pictures: list[Grey], bit_rate: int) -> list[Grey]:
    """The pictures, cut to even sides, through a live encoder."""
    height, width = (side // 2 * 2 for side in pictures[0].shape)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.bit_rate, stream.gop_size = bit_rate, 15
        stream.options = {"preset": "veryfast", "tune": "zerolatency"}
        for number, picture in enumerate(pictures):
            whole = np.ascontiguousarray(picture[:height, :width])
            frame = av.VideoFrame.from_ndarray(whole, "gray").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def changes(pictures: list[Grey], fps: float) -> list[float]:
    """Per reference, the largest change within the second after it."""
    small = [shrunk(picture) for picture in pictures]
    second = round(fps)
    return [
        max(change(small[first], later) for later in small[first + 1 : first + second + 1])
        for first in range(0, len(small) - second, 3)
    ]


def cost(rounds: int = 200) -> tuple[float, float]:
    """Milliseconds per look, median and 95th percentile."""
    picture = np.random.default_rng(0).integers(0, 256, (582, 729, 3), np.uint8)
    watch, taken = StillWatch(), []
    for k in range(rounds):
        began = time.thread_time_ns()
        watch.look(picture, k * 33_000_000)
        taken.append((time.thread_time_ns() - began) / 1e6)
    return round(float(np.median(taken)), 3), round(float(np.percentile(taken, 95)), 3)


if __name__ == "__main__":
    main()
