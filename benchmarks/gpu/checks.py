"""What must hold on a GPU whatever the speed: parity, precision, graphs that follow inputs, flat memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.variants import Absent, Point, Variant, make, phantoms

MIN_DICE = {"fp32": 0.998, "fp16": 0.998, "bf16": 0.99, "int8": 0.9}
"""Mean over frames, between the masks of a trained engine and those of FP32, by precision. FP16's is the
accuracy gate's limit; INT8 is held to its labels there, and here must only not be something else."""
FOLLOWS = 0.2
"""Largest difference of a probability to FP32's on the same frame; to another frame's it is larger by far."""
PAGE = 4096


def check_variants(point: Point, names: Sequence[str], *, frames: int) -> dict[str, Any]:
    """Parity with eager FP32 on phantoms, and proof of the precision, by variant."""
    images = phantoms(frames)
    made = make(point, ["eager-fp32", *names])
    reference = next(made)
    assert isinstance(reference, Variant), reference
    wanted = [reference.probability(image).copy() for image in images]
    rows: dict[str, Any] = {}
    for variant in made:
        if isinstance(variant, Absent):
            rows[variant.name] = {"absent": variant.reason}
            continue
        found = [variant.probability(image) for image in images]
        masks = [variant.mask(image) for image in images]
        cut = point.checkpoint.spec.threshold
        dices = [dice(mask, other >= cut) for mask, other in zip(masks, wanted, strict=True)]
        worst = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
        rows[variant.name] = {
            "mean_dice": round(float(np.mean(dices)), 6),
            "least_dice": round(min(dices), 6),
            "largest_difference": round(worst, 6),
            "holds": not point.checkpoint.trained or float(np.mean(dices)) >= MIN_DICE[variant.precision],
            "precision_found": variant.found,
            "kernels": kernels_of(variant.net_call, point.device),
        }
        variant.close()
    return rows


def dice(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Of two masks; 1 if both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int(np.logical_and(a, b).sum()) / total


def kernels_of(call: Callable[[], object], device: str, most: int = 12) -> list[dict[str, Any]]:
    """The kernels that take most of a call's time: their names tell the type that they compute in."""
    from torch.profiler import ProfilerActivity, profile

    gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    call()
    with profile(activities=activities) as seen:
        call()
        if gpu:
            torch.cuda.synchronize()
    spent = "self_device_time_total" if gpu else "self_cpu_time_total"
    events = [(float(getattr(event, spent)), event) for event in seen.key_averages()]
    events.sort(key=lambda pair: -pair[0])
    return [
        {"name": event.key[:120], "us": round(us, 1), "calls": event.count}
        for us, event in events[:most]
        if us > 0
    ]


def check_graph(point: Point, name: str, *, frames: int) -> dict[str, Any]:
    """Whether a captured graph follows its input: every frame is another one, and each is compared.

    ``stale`` counts frames whose map equals that of the frame before.
    """
    made = list(make(point, ["eager-fp32", name]))
    reference, variant = made
    if isinstance(variant, Absent):
        return {"variant": name, "absent": variant.reason}
    assert isinstance(reference, Variant), reference
    worst, far, stale, wrong_masks = 0.0, 0, 0, 0
    before: npt.NDArray[np.float32] | None = None
    cut = point.checkpoint.spec.threshold
    for frame in moving(frames):
        found, wanted = variant.probability(frame), reference.probability(frame)
        off = float(np.abs(found - wanted).max())
        worst = max(worst, off)
        far += off > FOLLOWS
        stale += before is not None and bool(np.array_equal(found, before))
        wrong_masks += not np.array_equal(variant.mask(frame), found >= cut)
        before = found
    variant.close()
    return {
        "variant": name,
        "frames": frames,
        "largest_difference": round(worst, 6),
        "beyond": far,
        "stale": stale,
        "masks_unlike_probability": wrong_masks,
        "holds": stale == 0 and wrong_masks == 0 and far == 0,
    }


def moving(count: int) -> list[npt.NDArray[np.uint8]]:
    """Different frames: phantoms, shifted and of another brightness each time."""
    still = phantoms(min(count, 20))
    frames = []
    for index in range(count):
        turn = index // len(still)
        frame = np.roll(still[index % len(still)], (3 * turn, 7 * turn), (0, 1))
        frames.append(np.ascontiguousarray(frame // 2 + np.uint8((17 * turn) % 100)))
    return frames


def check_leak(point: Point, name: str, *, frames: int, seconds: float = 60.0) -> dict[str, Any]:
    """Memory of device and process over many frames of two sizes; after a tenth of them it must be flat.

    Ends early after ``seconds``, and says how many frames there were.
    """
    variant = next(iter(make(point, [name])))
    if isinstance(variant, Absent):
        return {"variant": name, "absent": variant.reason}
    one = phantoms(1)[0]
    images = [one, np.ascontiguousarray(one[:400, :500])]
    began, done, settled = time.monotonic(), 0, memory(point.device)
    for index in range(frames):
        variant.mask(images[index % 2])
        done += 1
        if done == max(1, frames // 10):
            settled = memory(point.device)
        if time.monotonic() - began > seconds:
            break
    after = memory(point.device)
    variant.close()
    growth = {kind: after[kind] - settled[kind] for kind in after}
    return {
        "variant": name,
        "frames": done,
        "of": frames,
        "seconds": round(time.monotonic() - began, 1),
        "after_a_tenth": settled,
        "at_the_end": after,
        "growth": growth,
        "holds": done == frames and growth["device_bytes"] <= 0 and growth["process_bytes"] <= 2**24,
    }


def memory(device: str) -> dict[str, int]:
    """Bytes in use: on the device by torch and in all, and by the process in the computer's memory."""
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
    if not device.startswith("cuda"):
        return {"device_bytes": 0, "torch_bytes": 0, "process_bytes": resident}
    free, total = torch.cuda.mem_get_info()
    return {
        "device_bytes": total - free,
        "torch_bytes": torch.cuda.memory_allocated(),
        "process_bytes": resident,
    }
