"""Checks engines on a GPU, and times them against torch eager and the GPU's own limits.

    python3 -m benchmarks.gpu core [--out FOLDER] [--minutes 7.5]      one command, under 8 minutes
    python3 -m benchmarks.gpu full --piece N/M [--out FOLDER]          the rest, in pieces of the same length

Regime. One net at one size and batch is a point. All its variants run in one process, interleaved round by
round, on phantom frames of 420x580, grey, uint8 in the computer's memory:

- ``end to end``: from there to a mask (at the net's resolution) in the computer's memory; median, 99th
  percentile and largest of every single call. Eager variants prepare frames by OpenCV, as one would.
- ``device``: the net alone on an input that is on the device, between two CUDA events around a block of
  calls; median over rounds. Its TFLOP/s counts the folded net's convolutions, whatever was run.
- ``of matrix rate``: against a product of random 8192 x 8192 matrices of the same type, and ``of bandwidth``
  (weights and the convolutions' inputs and outputs once) against a copy, both measured in the same run. INT8
  is set against the rate of fp16.
- ``x eager``: times as fast end to end as plain torch FP16, the ratio within a round, median over rounds.

Parts run in order of importance until the time is over; each result is written as soon as it is there. What
an earlier run finished is kept, what is missing is named with its reason. ``--tiny`` walks through
everything at 32x32 with few repeats, in a minute or two, and its figures mean nothing: on a GPU a first try,
with ``--device cpu`` a test that needs none.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.table import claims, lines
from streamseg.benchmark.provenance import ROOT, machine_name, provenance
from streamseg.benchmark.rows.run import read_result, write_result

NETS = ("improved_unet", "unet", "segnet", "lite_unet")
SMALL, MIDDLE, LARGE = (192, 256), (256, 320), (416, 576)
PACKAGES = ("torch", "triton", "torch-tensorrt", "tensorrt", "tensorrt-rtx", "nvidia-modelopt", "numpy")
GUESS_S = 45.0
"""What a part is expected to take before any of its kind was seen."""
OVERTIME_S = 15.0
"""A part that is not done this long after the time is over is given up."""

Part = Callable[[], dict[str, Any]]


@dataclass(slots=True)
class Plan:
    """What a run measures, and how long each piece of it."""

    device: str
    tiny: bool
    minutes: float
    result: dict[str, Any]
    stem: Path
    began: float = field(default_factory=time.monotonic)
    longest: dict[str, float] = field(default_factory=dict)

    @property
    def dry(self) -> bool:
        """Without a GPU and without compiling, which takes the processor longer than all else."""
        return self.tiny and self.device == "cpu"

    def left(self) -> float:
        """Seconds until the time is over."""
        return self.began + 60 * self.minutes - time.monotonic()

    def do(self, section: str, key: str, part: Part) -> None:
        """Run a part unless it was done before or would not end in time; write the outcome."""
        store: dict[str, Any] = self.result.setdefault(section, {})
        if "not_measured" not in store.get(key, {"not_measured": ""}):
            return
        expected = self.longest.get(section, GUESS_S if not self.tiny else 0)
        if self.left() < expected:
            reason = f"{max(0, self.left()):.0f} s were left, such a part takes {expected:.0f} s"
            store[key] = {"not_measured": reason}
        else:
            began = time.monotonic()
            print(f"{key} ...", file=sys.stderr, flush=True)
            try:
                with _given_up_after(self.left() + OVERTIME_S):
                    store[key] = part()
            except Exception as error:  # the others must not go with it
                text = " ".join(str(error).split())[:300]
                store[key] = {"not_measured": f"{type(error).__name__}: {text}"}
            took = time.monotonic() - began
            store[key]["seconds"] = round(took, 1)
            self.longest[section] = max(self.longest.get(section, 0.0), took)
        self.result["claims"] = claims(self.result)
        write_result(self.stem, self.result, lines(self.result))


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 when it came to its end, whatever the figures say."""
    given = _parser().parse_args(arguments)
    import torch

    if given.tiny:
        torch.set_num_threads(1)  # more of them would wait for one another longer than they compute
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no NVIDIA GPU found; for a dry run use --device cpu --tiny", file=sys.stderr)
        return 2
    date = time.strftime("%Y-%m-%d")
    name = machine_name() if given.device == "cuda" else f"{machine_name()}-dry"
    stem = given.out / f"{date}-{name}-engines"
    given.out.mkdir(parents=True, exist_ok=True)
    result = read_result(stem.with_name(stem.name + ".json"))
    result = {"benchmark": "engines on a GPU", **provenance(packages=PACKAGES), **_kept(result)}
    result["device"] = given.device
    plan = Plan(given.device, given.tiny, given.minutes, result, stem)
    for section, key, part in core(plan) if given.what == "core" else full(plan, given.piece):
        plan.do(section, key, part)
    print(f"{stem}.json, {stem}.md")
    return 0


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run measured."""
    return {key: result[key] for key in ("limits", "points", "checks", "folding", "start") if key in result}


def core(plan: Plan) -> Iterator[tuple[str, str, Part]]:
    """The main points and all checks, the most telling first."""
    yield "limits", "device", lambda: _limits(plan)
    main_names = _names(plan)
    yield _point(plan, "improved_unet", LARGE, 1, names=main_names)
    yield _parity(plan, "improved_unet")
    yield _point(plan, "improved_unet", LARGE, 8, names=main_names)
    yield from _graph_checks(plan)
    yield _point(plan, "lite_unet", LARGE, 1, names=main_names)
    yield _parity(plan, "lite_unet")
    yield _folding(plan)
    yield _point(plan, "segnet", LARGE, 1, names=main_names)
    yield _point(plan, "unet", LARGE, 1, names=main_names)
    yield _start(plan, "compiled", "bf16" if plan.dry else "fp16")
    yield _start(plan, "tensorrt", "fp16")
    yield from _leak_checks(plan)
    if plan.tiny:  # every kind of part was there once
        yield _light(plan, LARGE, 1)
        return
    for net in NETS[1:]:
        yield _point(plan, net, LARGE, 8, names=main_names)
    yield _light(plan, LARGE, 8)
    for net in NETS:
        for batch in (1, 8):
            yield _point(plan, net, SMALL, batch, names=main_names)


def full(plan: Plan, piece: tuple[int, int]) -> Iterator[tuple[str, str, Part]]:
    """Piece N of M of all points in every precision; what the core set measured is not repeated."""
    number, pieces = piece
    yield "limits", "device", lambda: _limits(plan)
    points = [(net, size, batch) for size in (LARGE, MIDDLE, SMALL) for net in NETS for batch in (1, 8)]
    others = ["eager-bf16"] if plan.dry else ["eager-fp16", "compiled-fp32", "compiled-bf16", "tensorrt-fp32"]
    for index, (net, size, batch) in enumerate(points):
        if index % pieces == number - 1:
            yield _point(plan, net, size, batch, names=_names(plan))
            yield _point(plan, net, size, batch, names=others, what=" others")
    if number == pieces:
        yield _light(plan, LARGE, 1)
        yield _light(plan, SMALL, 1)


def _names(plan: Plan) -> list[str]:
    if plan.dry:
        return ["eager-fp32", "eager-bf16", "graph-bf16", "tensorrt-fp16", "tensorrt-int8"]
    return [
        "eager-fp32",
        "eager-fp16",
        "graph-fp16",
        "compiled-fp16",
        "tensorrt-fp16",
        "tensorrt-int8",
    ]


def _make_point(plan: Plan, net: str, size: tuple[int, int], batch: int) -> Any:
    from benchmarks.gpu.variants import Point

    size, batch = ((32, 32), min(batch, 2)) if plan.tiny else (size, batch)
    return Point(_checkpoint(net, size), batch, plan.device)


@lru_cache(maxsize=8)
def _checkpoint(net: str, size: tuple[int, int]) -> Any:
    from streamseg.export.source import resolve

    return resolve(net, size)


def _limits(plan: Plan) -> dict[str, Any]:
    from benchmarks.gpu.points import measure_limits

    return measure_limits(plan.device, tiny=plan.tiny)


def _point(
    plan: Plan, net: str, size: tuple[int, int], batch: int, *, names: list[str], what: str = ""
) -> tuple[str, str, Part]:
    def part() -> dict[str, Any]:
        from benchmarks.gpu.points import measure_point

        limits = plan.result["limits"]["device"]
        rounds, block_s = (2, 0.001) if plan.tiny else (5, 0.1)
        return measure_point(
            _make_point(plan, net, size, batch), names, limits, rounds=rounds, block_s=block_s
        )

    return "points", f"{net} {size[0]}x{size[1]} b{batch}{what}", part


def _parity(plan: Plan, net: str) -> tuple[str, str, Part]:
    """Every engine's masks against those of eager FP32, at the size where it is fast."""

    def part() -> dict[str, Any]:
        from benchmarks.gpu import checks

        point = _make_point(plan, net, SMALL, 1)
        return checks.check_variants(point, _names(plan)[2:], frames=2 if plan.tiny else 24)

    return "checks", "parity" if net == NETS[0] else f"parity {net}", part


def _engines(plan: Plan) -> tuple[str, str]:
    """The engines whose graphs and memory are looked at."""
    return "graph-bf16" if plan.dry else "compiled-fp16", "tensorrt-fp16"


def _graph_checks(plan: Plan) -> Iterator[tuple[str, str, Part]]:
    from benchmarks.gpu import checks

    point = _make_point(plan, "improved_unet", SMALL, 1)
    for name in _engines(plan):
        count = 5 if plan.tiny else 1000
        yield "checks", f"graph {name}", partial(checks.check_graph, point, name, frames=count)


def _leak_checks(plan: Plan) -> Iterator[tuple[str, str, Part]]:
    from benchmarks.gpu import checks

    point = _make_point(plan, "improved_unet", SMALL, 1)
    for name in _engines(plan):
        count = 20 if plan.tiny else 20_000
        yield "checks", f"leak {name}", partial(checks.check_leak, point, name, frames=count)


def _folding(plan: Plan) -> tuple[str, str, Part]:
    """The improved net against U-Net, interleaved: folded, they have the same work."""

    def part() -> dict[str, Any]:
        from benchmarks.gpu.points import compare_nets

        points = [_make_point(plan, net, LARGE, 1) for net in NETS[:2]]
        name = _engines(plan)[0]
        rounds, block_s = (2, 0.001) if plan.tiny else (11, 0.2)
        return compare_nets(points[0], points[1], name, rounds=rounds, block_s=block_s)

    return "folding", f"improved_unet / unet {LARGE[0]}x{LARGE[1]} b1", part


def _light(plan: Plan, size: tuple[int, int], batch: int) -> tuple[str, str, Part]:
    """Less arithmetic in the decoders, beside the plain net."""
    forms = ("transposed", "shuffled")
    names = [f"light-{form}" for form in forms]
    if plan.dry:
        names = ["eager-bf16", "graph-bf16", *names]
    else:
        names = ["eager-fp16", "graph-fp16", *names, "compiled-fp16", *(f"compiledlight-{f}" for f in forms)]
    return _point(plan, "improved_unet", size, batch, names=names, what=" light")


def _start(plan: Plan, backend: str, precision: str) -> tuple[str, str, Part]:
    def part() -> dict[str, Any]:
        from benchmarks.gpu.start import Asked, measure_start

        if plan.dry and backend == "compiled":
            return {"not_measured": "a dry run compiles nothing"}
        size = (32, 32) if plan.tiny else LARGE
        asked = Asked(backend, precision, "improved_unet", size)
        return measure_start(asked, limit_s=max(30.0, plan.left()))

    return "start", f"{backend}-{precision}", part


@contextmanager
def _given_up_after(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after this time; compilers can take longer than all else together."""

    def stop(*_: object) -> None:
        raise TimeoutError("the time was over before it was done")

    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("what", choices=("core", "full"))
    parser.add_argument("--piece", type=_piece, default=(1, 1), help="N/M: this piece of M")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=7.5, help="no part begins that would end later")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="32x32, few repeats: a dry run")
    return parser


def _piece(text: str) -> tuple[int, int]:
    try:
        number, pieces = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a piece is N/M, such as 2/4, received {text!r}") from None
    if not 1 <= number <= pieces:
        raise argparse.ArgumentTypeError(f"piece {text} is none of 1/{pieces} to {pieces}/{pieces}")
    return number, pieces


if __name__ == "__main__":
    sys.exit(main())
