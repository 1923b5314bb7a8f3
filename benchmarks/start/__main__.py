"""Times a process from its start to the first mask: with everything cached, and with nothing.

    python -m benchmarks.start [--engines BACKEND:PRECISION ...] [--rounds N] [--cold N] [--out DIR]

Regime: each start is a process of its own that does what ``streamseg replay`` does for one image, 580x420;
input size and weights are the shipped ones. Nothing else runs, and the starts of different engines take
turns.

- **warm**  the engine lies in the store, and Python has compiled its modules before.
- **cold**  the store and all caches are empty folders (engines, Python's bytecode, torch's and Triton's
  compilers, the user's cache), as after an installation. An engine that is not shipped is built first, by
  ``streamseg export``, with its accuracy gate on phantoms, in a process of its own; the start that follows
  finds the bytecode which that has left.

The operating system keeps files in memory as it likes in both: reading the libraries from a cold disk is not
in these figures.

Steps: ``build`` (cold only; the export's process, whole; ``files`` is the part of it in which the engine's
files are made, the rest is mostly the accuracy gate), ``python`` (from the call until the interpreter
runs the first line), ``import`` (the program's modules and the back end's library), ``load`` (the engine
read, hashed and compiled), ``decode``, ``mask`` (the first inference with all around it). ``replay`` is the
command itself, from its start to its exit, and ``demo`` what ``make demo`` runs, 300 frames into a video and
records. ``live`` is ``streamseg live`` on a real RTSP stream of 30 fps, without a display, until the first
outline: ``frame`` ends when the source's first frame was captured, ``outline`` when the first outline was on
display. No start is left out. The result is written after every round.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg.backends.loading import DEFAULT_NET, RUNNERS
from streamseg.benchmark.provenance import ROOT, OtherLoad, machine_name, provenance
from streamseg.benchmark.python_process import run_python
from streamseg.benchmark.rows.run import Spread, write_result
from streamseg.core.errors import EngineError
from streamseg.core.types import Grey
from streamseg.phantom import PhantomVideo, render_still
from streamseg.reporting.formatting import table
from tests.rtsp_server.server import feeding, serve, why_not

SHIPPED, EAGER, COMMAND, DEMO, LIVE = "shipped", "eager", "replay", "demo", "live"
LIVE_FPS, SEED = 30, 3
PACKAGES = ("torch", "openvino", "nncf", "onnxruntime", "numpy", "opencv-python")
LIMIT_S = 1800
"""What takes longer has failed; building an engine takes minutes."""
STEPS = ("build", "files", "python", "import", "load", "decode", "mask", "frame", "outline", "total")
CACHES = {
    "PYTHONPYCACHEPREFIX": "bytecode",
    "XDG_CACHE_HOME": "cache",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "STREAMSEG_ENGINES": "engines",
}
"""Environment variables of all caches that outlive a start, and a folder for each."""
LIBRARIES = {"eager": ("torch",), "compiled": ("torch",), "onnx": ("onnxruntime",), "tensorrt": ("torch",)}
"""What a back end imports only when it loads an engine."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to start."""

    name: str
    """``shipped``, ``eager``, ``replay``, ``demo``, ``live``, or BACKEND:PRECISION of an engine to build."""

    @property
    def built(self) -> bool:
        """Whether its engine comes from ``streamseg export``."""
        return ":" in self.name

    @property
    def modules(self) -> str:
        """Of its back end, with commas."""
        backend = "openvino" if self.name == SHIPPED else self.name.partition(":")[0]
        own = RUNNERS.get(backend, f"streamseg.backends.{backend}")
        return ",".join((own, *LIBRARIES.get(backend, ())))

    @property
    def engine(self) -> str:
        """The engine that the program is given if nothing is built."""
        return f"{DEFAULT_NET}-eager-fp32" if self.name == EAGER else ""


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as scratch, OtherLoad() as others:
        bench = Bench(
            [Case(name) for name in (SHIPPED, COMMAND, DEMO, LIVE, EAGER, *options.engines)], Path(scratch)
        )
        for number in range(options.cold):
            bench.round("cold", number)
            publish(bench, None, options.out)
        for number in range(options.rounds):
            bench.round("warm", number)
            publish(bench, None, options.out)
    print("\n".join(publish(bench, others.share, options.out)))


def publish(bench: Bench, others: float | None, out: Path) -> list[str]:
    """Write what there is so far; the table."""
    result = {
        "what": "cold and warm start",
        **bench.origin,
        "others_share": others,
        "rows": [row(kind, name, found) for (kind, name), found in bench.runs.items()],
        "absent": bench.absent,
    }
    text = lines(result)
    write_result(out / f"{result['date']}-{machine_name()}-start", result, text)
    return text


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ["openvino:fp32", "openvino:int8", "onnx:fp32", "compiled:fp32"]
    parser.add_argument("--engines", nargs="*", default=default, metavar="BACKEND:PRECISION")
    parser.add_argument("--rounds", type=int, default=10, help="warm starts of each")
    parser.add_argument("--cold", type=int, default=2, help="cold starts of each, at least 1")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    options.cold = max(1, options.cold)
    for name in options.engines:
        if name.partition(":")[0] not in RUNNERS:
            parser.error(f"{name!r} is no BACKEND:PRECISION; back ends are {', '.join(RUNNERS)}")
    return options


class Bench:
    """The starts of all cases, in turn. One that fails is left out from then on; ``absent`` says why."""

    def __init__(self, cases: Sequence[Case], scratch: Path) -> None:
        self.runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        """Milliseconds of each step of each start, by kind and case."""
        self.absent: dict[str, str] = {}
        self.origin = provenance(packages=PACKAGES)
        self._cases = cases
        self._folders: dict[str, str] = {}
        self._store = scratch / "store"
        self._image = scratch / "frame.png"
        cv2.imwrite(str(self._image), render_still(1, nerve=True).image)

    def round(self, kind: str, number: int) -> None:
        """One start of each case that has not failed, ``cold`` or ``warm``. Warm ones need a cold round."""
        for case in self._cases:
            if case.name in self.absent:
                continue
            say(f"{kind} start {number + 1}: {case.name}")
            try:
                steps = self._cold(case, number) if kind == "cold" else self._warm(case)
            except EngineError as failed:
                self.absent[case.name] = str(failed)
                say(f"failed: {failed}")
            else:
                self.runs.setdefault((kind, case.name), []).append(steps)

    def _warm(self, case: Case) -> dict[str, float]:
        engine = self._folders.get(case.name, case.engine)
        return start(case, engine, self._image, {"STREAMSEG_ENGINES": str(self._store / "none")})

    def _cold(self, case: Case, number: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as empty:
            caches = {name: str(Path(empty) / folder) for name, folder in CACHES.items()}
            if not case.built:
                return start(case, case.engine, self._image, caches)
            caches["STREAMSEG_ENGINES"] = str(self._store / f"{number}-{case.name.replace(':', '-')}")
            steps, self._folders[case.name] = cold_start(case, self._image, caches)
            return steps


def cold_start(case: Case, image: Path, caches: Mapping[str, str]) -> tuple[dict[str, float], str]:
    """Build an engine and start with it: milliseconds of each step, and the engine's folder."""
    backend, _, precision = case.name.partition(":")
    call = ["-m", "streamseg", "export", DEFAULT_NET, "--backend", backend, "--precision", precision]
    seconds, output = timed([*call, "--json"], caches)
    said = json.loads(output)
    folder = str(said["folder"])
    steps = start(case, folder, image, caches)
    build_ms = seconds * 1e3
    files_ms = said["built"]["seconds"] * 1e3
    return {"build": build_ms, "files": files_ms, **steps, "total": build_ms + steps["total"]}, folder


def start(case: Case, engine: str, image: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of each step of one start."""
    if case.name == COMMAND:
        seconds, _ = timed(["-m", "streamseg", "replay", str(image), "--json"], environment)
        return {"total": seconds * 1e3}
    if case.name == DEMO:
        return demo(environment)
    if case.name == LIVE:
        return live(environment)
    called_ns = time.monotonic_ns()
    _, output = timed(["-m", "benchmarks.start.worker", case.modules, engine, str(image)], environment)
    return steps_of(called_ns, output)


def demo(environment: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of what ``make demo`` runs after the set-up."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [*("--out", f"{folder}/phantom.mp4"), *("--records", f"{folder}/phantom.jsonl")]
        seconds, _ = timed(["-m", "streamseg", "replay", "phantom:", *outputs], environment)
    return {"total": seconds * 1e3}


def live(environment: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of each step of ``streamseg live`` until its first outline. Raises EngineError."""
    if reason := why_not():
        raise EngineError(reason)
    with streaming() as url:
        called_ns = time.monotonic_ns()
        call = ["-m", "benchmarks.start.live_worker", url, "--display", "none", "--seconds", "60"]
        # On a busy machine the first outline may be late, but it comes.
        _, output = timed([*call, "--age-budget", "60000"], environment)
    steps = steps_of(called_ns, output)
    if "outline" not in steps:
        raise EngineError("no outline within 60 s")
    return steps


@contextmanager
def streaming() -> Iterator[str]:
    """The address of a machine's screen with a nerve."""
    images = screens(4 * LIVE_FPS)
    images += images[-2:0:-1]  # forwards and backwards, so that nothing jumps
    height, width = images[0].shape
    settings = {"width": width, "height": height, "fps": LIVE_FPS, "gop": LIVE_FPS, "stdin": True}
    with serve(**settings) as server, feeding(server, lambda number: images[number % len(images)]):
        yield server.url


def screens(count: int) -> list[Grey]:
    """A machine's screen, grey (600, 800), with a phantom that has a nerve at a place that nobody tells."""
    video = PhantomVideo(SEED, nerve=True)
    made = []
    for number in range(count):
        image = video.frame(number).image
        screen = np.full((600, 800), 20, np.uint8)
        screen[80 : 80 + image.shape[0], 110 : 110 + image.shape[1]] = image
        made.append(screen)
    return made


def steps_of(called_ns: int, output: str) -> dict[str, float]:
    """Milliseconds of each step by the moments in a worker's output."""
    ends = {"call": called_ns, **json.loads(output)["ends_ns"]}
    moments = list(ends.values())
    steps = {
        name: (end - begin) / 1e6
        for name, begin, end in zip(list(ends)[1:], moments, moments[1:], strict=False)
    }
    return {**steps, "total": (moments[-1] - called_ns) / 1e6}


def timed(call: Sequence[str], environment: Mapping[str, str]) -> tuple[float, str]:
    """Run Python with arguments; seconds until it ended, and its output. Raises EngineError."""
    began = time.monotonic()
    output = run_python(call, limit_s=LIMIT_S, environment=environment)
    return time.monotonic() - began, output


def row(kind: str, name: str, runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """All starts of one case."""
    steps = {step: [run[step] for run in runs] for step in STEPS if step in runs[0]}
    return {
        "start": kind,
        "case": name,
        "starts": len(runs),
        "ms": {step: Spread.of(values, 1).to_json() for step, values in steps.items()},
        "runs_ms": [{step: round(value, 1) for step, value in run.items()} for run in runs],
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """The table."""
    machine = result["machine"]
    rows = [
        (
            one["start"],
            one["case"],
            *(_cell(one["ms"].get(step)) for step in STEPS),
            one["starts"],
        )
        for one in result["rows"]
    ]
    text = [
        f"# From the start of a process to the first mask ({machine['processor']}, {machine['cores']} cores, "
        f"{result['date']}, commit {machine['commit']})",
        "",
        "Seconds: median, and in brackets least to most. `benchmarks/start/__main__.py` describes the steps.",
        "",
        *table(("start", "engine", *STEPS, "starts"), rows),
        "",
    ]
    text += [f"Absent: {name}: {reason}" for name, reason in result["absent"].items()]
    share = result["others_share"]
    return text if share is None else [*text, f"Other processes took {share:.0%} of the processor."]


def _cell(spread: Mapping[str, float] | None) -> str | None:
    if spread is None:
        return None
    return f"{spread['median'] / 1e3:.2f} ({spread['min'] / 1e3:.2f} to {spread['max'] / 1e3:.2f})"


def say(line: str) -> None:
    """Progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
