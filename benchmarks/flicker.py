"""How much live outlines flicker, before and after ``streamseg.segmentation.temporal_filter``, and what the smoothing costs.

    python benchmarks/flicker.py [--clips DIR] [--seeds N] [--json FILE]

Regime: the default engine, every frame inferred once; ``finish`` of a Segmenter without and with ``Steady``
on the same maps, at the source's full rate and again with every second frame left out. Sources:

- ``clips``     real screens of a calf muscle, the image region found as replay does. There is no nerve in
  them: any outline is a false alarm. They last 1 to 2 s each.
- ``sliding``   phantoms whose probe moves away from the nerve and back, 10 s each
- ``resting``   phantoms whose probe stays, 5 s each
- ``overdriven``  the sliding ones, so bright that some frames are called unlike the training data

Seeds took no part in choosing anything. Columns, all over frames in their order:

- ``outline``  share of frames with an outline; ``on/off``  times that it came or went, per second
- ``state``    changes of the state, per second
- ``IoU``      of consecutive masks where both frames have one; ``IoU all``  over all pairs: two empty masks
  are 1, one empty mask 0
- ``Dice``     against the truth, all frames (both empty: 1); ``with nerve``  frames whose truth shows one;
  ``both``  those in which before and after both show an outline, so that only its shape counts; ``moving``
  the same where the truth changed from the frame before (IoU below 0.95)
- ``late on``, ``late off``  frames by which smoothing shows an outline later than the engine alone does, or
  keeps it longer: the most over all times that the engine changed for two frames or more. An outline that
  did not last, or jumped elsewhere, until the smoothing showed it counts in ``missed``.

The cost is processor time of ``Steady.update`` on maps of the clips.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg.backends import load_backend
from streamseg.capture import open_source
from streamseg.capture.phantom import PhantomSource
from streamseg.capture.screen.find import find_region
from streamseg.core.types import Backend, Frame, Mask, Roi, Segmentation
from streamseg.segmentation.segmenter import Segmenter, content_of
from streamseg.segmentation.temporal_filter import Steady

CLIPS = Path(__file__).resolve().parents[2] / "shared/data/clips"
SEED = 70_000
"""First seed: none below was looked at while the smoothing was being made."""
SMALLEST = 0.002
"""Part of the picture that a nerve fills at least to count as seen: less is the edge of one."""
RATES = {"full rate": 1, "half rate": 2}


@dataclass
class Track:
    """The outlines of one run over one source."""

    seconds: float = 0.0
    masks: list[Mask] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def add(self, found: Segmentation) -> None:
        # A quarter of the pixels is plenty, and three hundred full masks are not small.
        self.masks.append(np.ascontiguousarray(found.mask[::2, ::2]))
        self.states.append(str(found.state))


@dataclass
class Take:
    """One source: its runs, and its truths where they are known."""

    kind: str
    tracks: dict[tuple[str, str], Track]
    truths: list[Mask | None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--seeds", type=int, default=8, help="of each kind of phantom")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    backend = load_backend()
    takes: dict[str, list[Take]] = {}
    for name, source in sources(options):
        take = follow(name, backend, *source)
        takes.setdefault(take.kind, []).append(take)
        print(f"{name}: {len(take.truths)} frames", flush=True)
    rows = [
        {"source": kind, "rate": rate, "smoothing": mode, **summary(group, rate, mode)}
        for kind, group in takes.items()
        for rate in RATES
        for mode in ("before", "after")
    ]
    result = {
        "what": "flicker of live outlines",
        "date": time.strftime("%Y-%m-%d"),
        "engine_sha256": backend.fingerprint,
        "seeds": [SEED, SEED + options.seeds - 1],
        "update_ms": cost(backend),
        "rows": rows,
        "cores": os.cpu_count(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    print("\n".join(lines(result)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


Material = tuple[list[Frame], Roi | None, list[Mask | None]]


def sources(options: argparse.Namespace) -> Iterator[tuple[str, Material]]:
    """Name, which begins with the kind, and the frames with their region and truths."""
    for path in sorted(options.clips.glob("*.mp4")):
        with open_source(path) as clip:
            frames = list(clip)
        yield (
            f"clips {path.stem}",
            (frames, find_region([f.image for f in frames[::10]]), [None] * len(frames)),
        )
    for seed in range(SEED, SEED + options.seeds):
        sliding = phantom(seed, 300, None)
        yield f"sliding {seed}", sliding
        yield f"resting {seed}", phantom(seed, 150, True)
        yield f"overdriven {seed}", ([overdriven(frame) for frame in sliding[0]], *sliding[1:])


def phantom(seed: int, frames: int, nerve: bool | None) -> Material:
    with PhantomSource(seed=seed, frames=frames, nerve=nerve) as source:
        taken = list(source)
        return taken, None, [source.truth(frame.index) for frame in taken]


def overdriven(frame: Frame) -> Frame:
    """The frame as with far too much gain."""
    return replace(frame, image=cv2.convertScaleAbs(frame.image, alpha=GAIN))


GAIN = 2.0


def follow(
    name: str, backend: Backend, frames: list[Frame], roi: Roi | None, truths: list[Mask | None]
) -> Take:
    """Run all ways of finishing over a source's frames."""
    plain = Segmenter(backend, roi)
    smooth = {rate: Segmenter(backend, roi, steady=Steady()) for rate in RATES}
    tracks = {(rate, mode): Track() for rate in RATES for mode in ("before", "after")}
    for number, frame in enumerate(frames):
        timed = replace(frame, captured_ns=round((frame.pts_seconds or 0.0) * 1e9))
        probability = plain.infer(plain.prepare(timed))
        alone = plain.finish(timed, probability)
        for rate, step in RATES.items():
            if number % step == 0:
                tracks[rate, "before"].add(alone)
                tracks[rate, "after"].add(smooth[rate].finish(timed, probability))
    seconds = (frames[-1].pts_seconds or 0.0) - (frames[0].pts_seconds or 0.0)
    for track in tracks.values():
        track.seconds = seconds
    return Take(name.split(maxsplit=1)[0], tracks, [None if t is None else t[::2, ::2] for t in truths])


def overlap(one: Mask, other: Mask) -> float:
    """IoU; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def dice(one: Mask, other: Mask) -> float:
    """Dice; 1 where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def summary(takes: list[Take], rate: str, mode: str) -> dict[str, Any]:
    """The columns of a row, over all sources of a kind."""
    figures: dict[str, list[float]] = {}
    seconds = 0.0

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(float(value))

    for take in takes:
        track, other = take.tracks[rate, mode], take.tracks[rate, "before" if mode == "after" else "after"]
        seconds += track.seconds
        shown = [bool(mask.any()) for mask in track.masks]
        for k, mask in enumerate(track.masks):
            note("outline", shown[k])
            if k:
                note("on/off", shown[k] != shown[k - 1])
                note("state", track.states[k] != track.states[k - 1])
                note("IoU all", overlap(mask, track.masks[k - 1]))
                if shown[k] and shown[k - 1]:
                    note("IoU", overlap(mask, track.masks[k - 1]))
        against_truth(note, track, other, take.truths[:: RATES[rate]])
        if mode == "after":
            lateness(note, other, track)
    totals = {name: sum(figures.pop(name, [])) for name in ("on/off", "state", "missed")}
    late = {name: int(max(figures.pop(name, [0]))) for name in ("late on", "late off")}
    means = {name: round(float(np.mean(values)), 4) for name, values in figures.items()}
    per_second = {name: round(totals[name] / seconds, 3) for name in ("on/off", "state")}
    return {**means, **per_second, **({**late, "missed": int(totals["missed"])} if mode == "after" else {})}


def against_truth(note: Any, track: Track, other: Track, truths: list[Mask | None]) -> None:
    """Dice of a track's masks, in all and in the parts that matter."""
    before: Mask | None = None
    for mask, rival, truth in zip(track.masks, other.masks, truths, strict=True):
        if truth is None:
            continue
        value = dice(mask, truth)
        note("Dice", value)
        if truth.mean() >= SMALLEST:
            note("with nerve", value)
            if mask.any() and rival.any():
                note("both", value)
                if before is not None and overlap(truth, before) < 0.95:
                    note("moving", value)
        before = truth


def lateness(note: Any, engine: Track, steady: Track) -> None:
    """Frames by which smoothing follows the engine later, wherever that changes for two frames or more."""
    alone, shown = ([bool(mask.any()) for mask in track.masks] for track in (engine, steady))
    for k in range(1, len(alone) - 1):
        if alone[k] == alone[k - 1] or alone[k + 1] != alone[k]:
            continue
        last = next((m for m in range(k, len(alone)) if alone[m] != alone[k]), len(alone))
        follows = next((m for m in range(k, last) if shown[m] == alone[k]), None)
        name = "late on" if alone[k] else "late off"
        same_place = all(overlap(engine.masks[m], engine.masks[m + 1]) > 0.5 for m in range(k, k + 1))
        if follows is not None and (not alone[k] or same_place):
            note(name, follows - k)
        elif alone[k]:
            note("missed", 1)


def cost(backend: Backend, rounds: int = 200) -> dict[str, float]:
    """Milliseconds of processor time per update, of pictures at the net's resolution."""
    rng = np.random.default_rng(0)
    with PhantomSource(seed=SEED, frames=20) as source:
        contents = [content_of(frame.image, backend.spec) for frame in source]
    maps = [rng.random((backend.spec.height, backend.spec.width), np.float32) for _ in contents]
    steady, taken = Steady(), []
    for k in range(rounds):
        began = time.thread_time_ns()
        steady.update(maps[k % 20], contents[k % 20], k * 33_000_000)
        taken.append((time.thread_time_ns() - began) / 1e6)
    return {"median": round(float(np.median(taken)), 3), "p95": round(float(np.percentile(taken, 95)), 3)}


COLUMNS = ("outline", "on/off", "state", "IoU", "IoU all", "Dice", "with nerve", "both", "moving")
LATE = ("late on", "late off", "missed")


def lines(result: dict[str, Any]) -> list[str]:
    """The table for people."""
    names = ("source", "rate", "smoothing", *COLUMNS, *LATE)
    text = ["", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in result["rows"]:
        cells = [row[name] for name in names[:3]]
        cells += [f"{row[name]:.3f}" if name in row else "" for name in COLUMNS]
        text.append("| " + " | ".join([*cells, *(str(row.get(name, "")) for name in LATE)]) + " |")
    return [*text, "", f"update: {result['update_ms']['median']} ms, {result['update_ms']['p95']} ms at p95"]


if __name__ == "__main__":
    main()
