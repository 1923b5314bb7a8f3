"""What is called unlike the training data, and what it costs to look.

    python benchmarks/unlike.py [--engine NAME] [--data DATA] [--json FILE] [RECORDING ...]

Measures the judgement that an engine carries; the net itself does not run. Per kind of picture it prints how
many were looked at and the share called unlike:

- the validation block (the last fifth) of DATA, and pictures made from it that are unlike by rule
- phantom stills and phantom video, with seeds that took part neither in training nor in fitting
- frames of recordings, each within the image region that replay would take, and of the whole screen

The cost is processor time of the calling thread per picture of a 730x582 grey and colour frame, with OpenCV
held to one thread: median and 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from streamseg.backends import load_backend
from streamseg.capture import open_source
from streamseg.capture.screen.find import find_region
from streamseg.core.types import Image, InputSpec
from streamseg.datasets import open_dataset, split_last
from streamseg.phantom import render_still
from streamseg.segmentation.ood_detector import is_unlike
from streamseg.segmentation.segmenter import content_of
from streamseg.training.ood_examples import unlike_pictures
from streamseg.training.output_calibration import video_frames

SEED = 50_000_000
EVERY, MOST = 3, 300
"""Of recordings, one frame of so many is looked at, and so many at most."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--engine")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--stills", type=int, default=200)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    spec = load_backend(options.engine).spec
    if spec.judgement is None or not spec.judgement.familiar:
        raise SystemExit("this engine carries no judgement of pictures; export it with one")
    rows = {}
    for kind, pictures in kinds(options):
        hits = [is_unlike(one, content_of(one, spec), spec.judgement.familiar) for one in pictures]
        rows[kind] = {"pictures": len(hits), "unlike": round(float(np.mean(hits)), 4)}
        print(f"{kind:44} {len(hits):5} pictures  {rows[kind]['unlike']:7.1%} unlike", flush=True)
    cost = {name: times(shape, spec) for name, shape in (("grey", (582, 730)), ("colour", (582, 730, 3)))}
    for name, (median, tail) in cost.items():
        print(f"looking at a {name} frame: {median:.2f} ms median, {tail:.2f} ms at the 95th percentile")
    if options.json:
        found = {"machine": platform.processor() or platform.machine(), "kinds": rows, "cost_ms": cost}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def kinds(options: argparse.Namespace) -> Iterator[tuple[str, Iterable[Image]]]:
    """Kinds of pictures, one after another."""
    real = []
    if options.data:
        real = [sample.image for sample in split_last(open_dataset(options.data), 0.2)[1]]
        yield "validation block", real
    stills = [render_still(SEED + number).image for number in range(options.stills)]
    yield "phantom stills", stills
    yield "phantom video", video_frames(options.videos, SEED)
    for kind, pictures in unlike_pictures(real or stills[:40]).items():
        yield f"made: {kind}", pictures
    for path in options.recordings:
        with open_source(path) as source:
            screens = [frame.image for frame in islice(source, 0, EVERY * MOST, EVERY)]
            region = source.info.region or find_region(screens[:24])
        if region is not None:
            yield f"{path.name[:30]}, region", [region.crop(screen) for screen in screens]
        yield f"{path.name[:30]}, screen", screens


def times(shape: tuple[int, ...], spec: InputSpec, rounds: int = 200) -> tuple[float, float]:
    """Milliseconds per picture, median and 95th percentile."""
    assert spec.judgement is not None
    picture = cv2.resize(render_still(SEED).image, (shape[1], shape[0]))
    if len(shape) == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    taken = []
    for _ in range(rounds):
        began = time.thread_time_ns()
        is_unlike(picture, content_of(picture, spec), spec.judgement.familiar)
        taken.append((time.thread_time_ns() - began) / 1e6)
    return round(float(np.median(taken)), 3), round(float(np.percentile(taken, 95)), 3)


if __name__ == "__main__":
    main()
