"""The machine's limits beside a benchmark: measured several times, and never in its way."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from streamseg.benchmark import limits as module
from streamseg.benchmark.limits import (
    CALLS,
    Kernel,
    MachineLimits,
    gpu_kernels,
    gpu_synchronize,
    kernels_of,
    limits,
    processor_kernels,
)
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.benchmark.timing import Timing, interleave
from tests.benchmark.fakes import Clock

MS = 1_000_000


def timing(milliseconds: float) -> Timing:
    return Timing(((round(milliseconds * MS),) * 3,))


def test_the_fastest_kernel_of_a_kind_is_its_limit() -> None:
    kernels = [
        Kernel("a", "fp32", 4e9, print),
        Kernel("b", "fp32", 9e9, print),
        Kernel("c", "copy", 1e9, print),
        Kernel("not timed", "int8", 1e9, print),
    ]
    found = limits(kernels, {"a": timing(10), "b": timing(30), "c": timing(100), "an engine": timing(1)})
    assert set(found) == {"fp32", "copy"}
    assert (found["fp32"].kernel, found["fp32"].rate) == ("a", pytest.approx(400e9))
    assert found["copy"].info().to_json() == {"giga_per_s": 10.0, "kernel": "c", "kernels": {"c": 10.0}}
    assert found["fp32"].info().kernels == {"a": 400.0, "b": 300.0}


def test_the_processors_kernels_run_and_their_work_is_known() -> None:
    kernels = processor_kernels(1, shrink=16)
    assert {kernel.kind for kernel in kernels} == {"fp32", "int8", "copy"}
    found = limits(kernels, interleave({k.name: k.call for k in kernels}, rounds=1, per_round=2))
    assert all(limit.rate > 0 for limit in found.values())
    by_name = {kernel.name: kernel.work for kernel in kernels}
    assert by_name["torch product 128"] == 2 * 128**3
    assert by_name["OpenVINO int8 4 x conv3-16"] == 4 * 2 * 9 * 16 * 16 * 48 * 64


def test_the_int8_kernel_computes_in_int8() -> None:
    """Else the limit would be one of another kind of arithmetic."""
    import openvino as ov

    from streamseg.benchmark import limits as module

    models = []

    def keep(model: ov.Model, threads: int) -> None:
        models.append(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_openvino_call", keep)
        for kind in ("int8", "fp32"):
            module._chain(kind, 1, 32, 3, 2)
    for model, expected in zip(models, ({"u8", "i8"}, {"f32"}), strict=True):
        compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        layers = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        kinds = {
            info["runtimePrecision"].astype(str)
            for info in layers
            if info["layerType"].astype(str) == "Convolution"
        }
        assert kinds
        assert kinds <= expected


def test_a_gpus_kernels_run_on_a_processor_too() -> None:
    kernels = gpu_kernels(("fp32", "bf16", "copy"), device="cpu", side=32, copy_bytes=2**20)
    wait = gpu_synchronize("cpu")
    found = limits(kernels, interleave({k.name: k.call for k in kernels}, rounds=1, synchronize=wait))
    assert set(found) == {"fp32", "bf16", "copy"}


@pytest.mark.gpu
def test_a_gpus_limits_make_sense() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    kernels = gpu_kernels()
    found = limits(
        kernels,
        interleave({k.name: k.call for k in kernels}, rounds=3, per_round=5, synchronize=gpu_synchronize()),
    )
    assert found["fp16"].rate > found["fp32"].rate > 1e12
    assert found["copy"].rate > 1e11


def made_of(monkeypatch: pytest.MonkeyPatch, *kernels: Kernel) -> None:
    monkeypatch.setattr(module, "kernels_of", lambda threads, gpu: list(kernels))


def test_all_that_was_timed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def slows_down() -> None:
        calls.append(time.monotonic())
        time.sleep(0.001 if len(calls) <= CALLS + 1 else 0.1)

    made_of(monkeypatch, Kernel("product", "fp32", 1e6, slows_down))
    said: list[str] = []
    with MachineLimits(1, said.append) as machine:
        machine.measure()
        first = machine.found()["fp32"].giga_per_s
        machine.measure()
        machine.measure()
    # The median of three fast calls and six slow ones is a slow one's.
    assert machine.found()["fp32"].giga_per_s < first
    assert machine.found()["fp32"].kernel == "product"
    assert said == ["measuring the machine's limits"]


def test_a_kernel_that_finds_no_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    slow, late = Kernel("slow", "fp32", 1e6, clock.work(30_000)), Kernel("late", "int8", 1e6, clock.work(1))
    made_of(monkeypatch, slow, late)
    said: list[str] = []
    with MachineLimits(1, said.append) as machine:
        machine.measure(TimeLimit(100, clock_ns=clock))
        assert list(machine.found()) == ["fp32"]
        assert clock.ns == 120_001_000_000  # each once to warm up, and the calls of the slow one
        machine.measure(TimeLimit(0, clock_ns=clock))
    assert clock.ns == 120_001_000_000
    words = f"limits of the machine: {{}} left out: {TOO_LATE}"
    assert said[1:] == [words.format("late"), words.format("slow")]


def test_a_kernel_that_fails_is_reported_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise MemoryError("no\nroom")

    made_of(monkeypatch, Kernel("good", "fp32", 1e9, time.time), Kernel("bad", "copy", 1e9, fails))
    said: list[str] = []
    with MachineLimits(1, said.append) as machine:
        machine.measure()
        machine.measure()
    assert set(machine.found()) == {"fp32"}
    assert said[1:] == ["limits of the machine: bad left out: no room"]


def test_a_machine_that_cannot_be_measured_has_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(threads: int, gpu: bool) -> list[Kernel]:
        raise OSError("this system does not say how much memory it has")

    monkeypatch.setattr(module, "kernels_of", broken)
    said: list[str] = []
    with MachineLimits(1, said.append) as machine:
        machine.measure()
        machine.measure()
    assert machine.found() == {}
    assert len(said) == 2
    assert "does not say how much memory" in said[1]


def test_memory_of_the_kernels_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Call:
        def __call__(self) -> None:
            """Nothing to do."""

    call = Call()
    alive: Callable[[], Any] = weakref.ref(call)
    made_of(monkeypatch, Kernel("product", "fp32", 1e9, call))
    del call
    with MachineLimits(1, lambda line: None) as machine:
        machine.measure()
    monkeypatch.undo()
    assert alive() is None
    assert machine.found()["fp32"].kernel == "product"


def test_nothing_is_measured_unless_it_is_asked_for() -> None:
    with MachineLimits(1, lambda line: None) as machine:
        pass
    assert machine.found() == {}


def test_the_kernels_are_those_of_the_nets_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processor_kernels", lambda threads: processor_kernels(threads, shrink=16))
    monkeypatch.setattr(module, "gpu_kernels", lambda: [Kernel("product", "fp16", 1e9, time.time)])
    assert {kernel.kind for kernel in kernels_of(1, gpu=False)} == {"fp32", "int8", "copy"}
    found = kernels_of(1, gpu=True)[-1]
    assert (found.name, found.kind) == ("GPU product", "gpu fp16")
