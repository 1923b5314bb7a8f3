"""The machine's limits beside a benchmark: measured several times, and never in its way."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from streamseg.benchmark import yardstick as module
from streamseg.benchmark.limits import Kernel, processor_kernels
from streamseg.benchmark.yardstick import CALLS, Yardstick, kernels_of, on_gpu


def made_of(monkeypatch: pytest.MonkeyPatch, *kernels: Kernel) -> None:
    monkeypatch.setattr(module, "kernels_of", lambda threads, gpu: list(kernels))


def test_all_that_was_timed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def slows_down() -> None:
        calls.append(time.monotonic())
        time.sleep(0.001 if len(calls) <= CALLS + 1 else 0.1)

    made_of(monkeypatch, Kernel("product", "fp32", 1e6, slows_down))
    said: list[str] = []
    with Yardstick(1, said.append) as machine:
        machine.measure()
        first = machine.to_json()["fp32"]["giga_per_s"]
        machine.measure()
        machine.measure()
    # The median of three fast calls and six slow ones is a slow one's.
    assert machine.to_json()["fp32"]["giga_per_s"] < first
    assert machine.to_json()["fp32"]["kernel"] == "product"
    assert said == ["measuring the machine's limits"]


def test_a_kernel_that_fails_is_told_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise MemoryError("no\nroom")

    made_of(monkeypatch, Kernel("good", "fp32", 1e9, time.time), Kernel("bad", "copy", 1e9, fails))
    said: list[str] = []
    with Yardstick(1, said.append) as machine:
        machine.measure()
        machine.measure()
    assert set(machine.to_json()) == {"fp32"}
    assert said[1:] == ["limits of the machine: bad left out: no room"]


@pytest.mark.parametrize("finished", [True, False])
def test_ctrl_c_is_told_where_something_is_finished_and_passes_where_nothing_is(
    monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    made_of(monkeypatch, Kernel("product", "fp32", 1e9, time.time))
    stopped: list[str] = []
    with Yardstick(1, print) as machine:
        assert not machine.around(lambda: None, kept=lambda: True, stopped=lambda: stopped.append("early"))
        if finished:
            assert machine.around(interrupted, kept=lambda: True, stopped=lambda: stopped.append("here"))
        else:
            with pytest.raises(KeyboardInterrupt):
                machine.around(interrupted, kept=lambda: False, stopped=lambda: stopped.append("here"))
    assert stopped == ["here"] * finished


def test_a_machine_that_cannot_be_measured_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(threads: int, gpu: bool) -> list[Kernel]:
        raise OSError("this system does not say how much memory it has")

    monkeypatch.setattr(module, "kernels_of", broken)
    said: list[str] = []
    with Yardstick(1, said.append) as machine:
        machine.measure()
        machine.measure()
    assert machine.to_json() == {}
    assert len(said) == 2
    assert "does not say how much memory" in said[1]


def test_its_memory_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Call:
        def __call__(self) -> None:
            """Nothing to do."""

    call = Call()
    alive: Callable[[], Any] = weakref.ref(call)
    made_of(monkeypatch, Kernel("product", "fp32", 1e9, call))
    del call
    with Yardstick(1, lambda line: None) as machine:
        machine.measure()
    monkeypatch.undo()
    assert alive() is None
    assert machine.to_json()["fp32"]["kernel"] == "product"


def test_nothing_is_measured_unless_it_is_asked_for() -> None:
    with Yardstick(1, lambda line: None) as machine:
        pass
    assert machine.to_json() == {}


def test_the_kernels_are_those_of_the_nets_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processor_kernels", lambda threads: processor_kernels(threads, shrink=16))
    monkeypatch.setattr(module, "gpu_kernels", lambda: [Kernel("product", "fp16", 1e9, time.time)])
    assert {kernel.kind for kernel in kernels_of(1, gpu=False)} == {"fp32", "int8", "copy"}
    found = kernels_of(1, gpu=True)[-1]
    assert (found.name, found.kind) == ("GPU product", "gpu fp16")


def test_engines_tell_whether_they_run_on_a_gpu() -> None:
    def engine(device: str) -> Any:
        return SimpleNamespace(runner=SimpleNamespace(device=SimpleNamespace(type=device)))

    assert not on_gpu([SimpleNamespace(), engine("cpu")])  # type: ignore[list-item]
    assert on_gpu([engine("cpu"), engine("cuda")])
