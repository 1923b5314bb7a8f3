"""Which ways to run a net are compared: back ends and precisions, the usual ones or those asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from streamseg.benchmark.subject import EAGER
from streamseg.core.errors import UsageError
from streamseg.engines.checkpoint import NETS
from streamseg.engines.manifest import PRECISIONS

ALL_NETS = ("improved_unet", "unet", "segnet")
"""In the order in which they are measured."""
EAGER_GPU = "eager-cuda"
"""torch as written, on a GPU."""
OFFERED = {
    EAGER: ("fp32", "bf16"),
    "openvino": PRECISIONS,
    "onnx": ("fp32", "fp16", "int8"),
    EAGER_GPU: ("fp32", "fp16", "bf16"),
    "tensorrt": PRECISIONS,
    "compiled": ("fp32", "fp16", "bf16"),
}
"""Precisions that each back end can be asked for; some only on some machines."""
USUAL = ("fp32", "int8")
USUAL_ON_GPU = ("fp32", "fp16", "int8")
ON_GPU = (EAGER_GPU, "tensorrt")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run any net."""

    backend: str
    precision: str
    folded: bool = True

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}{'' if self.folded else ' as trained'}"


def plan(
    backends: Sequence[str], precisions: Sequence[str], *, gpu: bool, quick: bool
) -> tuple[list[Way], dict[str, str]]:
    """The ways to run a net, and why what was asked for is not among them, by its words.

    Empty means what this machine has: eager and openvino, onnx where it is installed (not if ``quick``), on a
    GPU also eager-cuda and tensorrt; fp32 and int8, on a GPU also fp16. ``compiled`` takes minutes to build,
    so it is measured where it is asked for. What the others are compared with is always among them: torch
    eager FP32 as trained, on the device of each. Raises UsageError for a name that there is not, and where
    there is nothing of what was asked for.
    """
    check_names("back end", backends, tuple(OFFERED))
    check_names("precision", precisions, PRECISIONS)
    chosen = list(dict.fromkeys(backends)) or _usual_backends(gpu, quick)
    ways = [Way(EAGER, "fp32", folded=False)]
    if EAGER_GPU in chosen or (gpu and {"tensorrt", "compiled"} & set(chosen)):
        ways.append(Way(EAGER_GPU, "fp32", folded=False))
    absent, references = {}, len(ways)
    for backend in chosen:
        wanted = list(dict.fromkeys(precisions)) or list(USUAL_ON_GPU if backend in ON_GPU else USUAL)
        for precision in wanted:
            way = Way(backend, precision)
            if precision in OFFERED[backend]:
                ways.append(way)
            elif backends and precisions:
                offered = ", ".join(OFFERED[backend])
                absent[str(way)] = f"{backend} computes in {offered}; {precision} is not to be had there"
    if absent and len(ways) == references:
        raise UsageError(f"nothing of what was asked for is to be had: {next(iter(absent.values()))}")
    return ways, absent


def check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError, naming the choices, where one of the names is not known."""
    for name in given:
        if name not in known:
            raise UsageError(f"no {what} is called {name!r}; choose one of {', '.join(known)}")


def check_nets(nets: Sequence[str]) -> tuple[str, ...]:
    """The nets asked for, each once; all of them where none is. Raises UsageError."""
    check_names("net", nets, NETS)
    return tuple(dict.fromkeys(nets)) or ALL_NETS


def _usual_backends(gpu: bool, quick: bool) -> list[str]:
    found = [EAGER, "openvino"]
    if not quick and find_spec("onnxruntime") is not None:
        found.append("onnx")
    return [*found, *ON_GPU] if gpu else found
