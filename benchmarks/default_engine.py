"""What the default engine gains, and what replay costs around it; every ratio from one interleaved run.

    python benchmarks/default_engine.py [--source CLIP] [--frames N] [--rounds R] [--json FILE]

Regime: batch 1, the source's real frames, all cores, nothing else running. Each round times in turn:

- ``engine``  the default engine (INT8, OpenVINO) alone, one frame after another, on tensors made beforehand
- ``engine, frames abreast``  the same as replay loads it: as many frames at once as suit the machine
- ``replay``  ``streamseg.pipeline.replay`` of the same frames with a records sink only: decoding,
  preprocessing, inference, postprocessing and writing JSON lines, from opening the file to closing the sink
- ``fp32``    the same weights in FP32 on OpenVINO
- ``eager``   the same net in torch eager FP32 as it was trained (unfolded), and ``eager folded``

A rate is frames / seconds of the whole block. A ratio is taken within each round; printed are its median,
least and largest over the rounds. The first round warms up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import torch

from streamseg.backends import load_backend
from streamseg.backends.catalog import DEFAULT, WEIGHTS
from streamseg.backends.manifest import read_manifest
from streamseg.benchmark.provenance import provenance
from streamseg.capture import open_source
from streamseg.capture.screen import find_region
from streamseg.nets import build_net
from streamseg.pipeline import replay
from streamseg.segment import Segmenter
from streamseg.sinks import open_sink
from streamseg.types import Frame, Roi

PACKAGES = ("torch", "openvino", "opencv-python", "av", "numpy")
CLIPS = Path(__file__).resolve().parents[2] / "shared/data/clips"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    clips = sorted(CLIPS.glob("*.mp4"), key=lambda path: path.stat().st_size)
    default = clips[-1] if clips else "phantom:"
    parser.add_argument("--source", default=str(default))
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)  # as the replay command does
    with open_source(options.source) as source:
        frames = [frame for _, frame in zip(range(options.frames), source, strict=False)]
    roi = find_region([frame.image for frame in frames[::10]])
    seconds = measure(variants(options.source, frames, roi), options.rounds)
    result = summary(seconds, options, len(frames), roi)
    for line in lines(result):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


Variant = tuple[int, Callable[[], None]]
"""Frames in one block, and the block."""


def variants(source: str, frames: list[Frame], roi: Roi | None) -> dict[str, Variant]:
    """The blocks to time, by name. Slow nets get fewer frames a block, so that all take similar times."""
    engine, fp32 = load_backend(), load_backend("improved_unet-openvino-fp32")
    abreast = load_backend(throughput=True)
    segmenter = Segmenter(abreast, roi)
    tensors = [segmenter.prepare(frame) for frame in frames]
    folded = load_backend("improved_unet-eager-fp32")
    net = build_net("improved_unet").eval()

    def infer(backend: Any, count: int) -> Variant:
        def block() -> None:
            for tensor in tensors[:count]:
                backend.infer(tensor)

        return count, block

    def infer_abreast() -> None:
        with ThreadPoolExecutor(segmenter.lanes) as pool:
            for _ in pool.map(abreast.infer, tensors):
                pass

    @torch.inference_mode()
    def eager() -> None:
        for tensor in tensors[: len(tensors) // 8]:
            torch.sigmoid(net(torch.from_numpy(tensor)))

    return {
        "engine": infer(engine, len(tensors)),
        "engine, frames abreast": (len(tensors), infer_abreast),
        "replay": (len(frames), lambda: replay_records(source, segmenter, len(frames))),
        "fp32": infer(fp32, len(tensors) // 4),
        "eager": (len(tensors) // 8, eager),
        "eager folded": infer(folded, len(tensors) // 8),
    }


def replay_records(source: str, segmenter: Segmenter, count: int) -> None:
    """Replay the source's first frames into JSON lines."""
    with tempfile.TemporaryDirectory() as folder, open_source(source) as opened:
        sink = open_sink(Path(folder) / "records.jsonl", opened.info, header={}, force=False)
        replay(opened, segmenter, [sink], stop=threading.Event(), max_frames=count)


def measure(blocks: dict[str, Variant], rounds: int) -> dict[str, list[float]]:
    """Frames per second of each block in each counted round."""
    rates: dict[str, list[float]] = {name: [] for name in blocks}
    for number in range(rounds + 1):
        for name, (count, block) in blocks.items():
            started = time.monotonic_ns()
            block()
            rate = count * 1e9 / (time.monotonic_ns() - started)
            if number:
                rates[name].append(rate)
    return rates


def summary(
    rates: dict[str, list[float]], options: argparse.Namespace, frames: int, roi: Roi | None
) -> dict[str, Any]:
    """All that is printed and kept."""
    manifest, fingerprint = read_manifest(WEIGHTS / DEFAULT)

    def ratio(upper: str, lower: str) -> dict[str, float]:
        values = [a / b for a, b in zip(rates[upper], rates[lower], strict=True)]
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

    return {
        "what": "default engine",
        **{key: value for key, value in provenance(packages=PACKAGES).items() if key != "engine"},
        "source": Path(options.source).name,
        "frames": frames,
        "rounds": options.rounds,
        "roi": str(roi),
        "input": [manifest.spec.height, manifest.spec.width],
        "engine_sha256": fingerprint,
        "fps": {
            name: {"median": statistics.median(v), "min": min(v), "max": max(v)} for name, v in rates.items()
        },
        "ratios": {
            "replay / engine": ratio("replay", "engine"),
            "replay / engine, frames abreast": ratio("replay", "engine, frames abreast"),
            "engine / eager": ratio("engine", "eager"),
            "engine / eager folded": ratio("engine", "eager folded"),
            "engine / fp32": ratio("engine", "fp32"),
        },
        "accuracy": manifest.accuracy,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The tables for people."""
    height, width = result["input"]
    text = [
        f"{result['source']}: {result['frames']} frames, {result['rounds']} rounds, input {height}x{width}",
        "",
    ]
    text += ["| variant | frames/s median | min | max |", "|---|---|---|---|"]
    text += [
        f"| {n} | {v['median']:.1f} | {v['min']:.1f} | {v['max']:.1f} |" for n, v in result["fps"].items()
    ]
    text += ["", "| ratio, within a round | median | min | max |", "|---|---|---|---|"]
    text += [
        f"| {n} | {v['median']:.2f} | {v['min']:.2f} | {v['max']:.2f} |" for n, v in result["ratios"].items()
    ]
    dice = {p: result["accuracy"].get(p, {}).get("validation", {}).get("dice_mean") for p in ("fp32", "int8")}
    return [*text, "", f"Dice on the validation block: FP32 {dice['fp32']}, INT8 {dice['int8']}"]


if __name__ == "__main__":
    main()
