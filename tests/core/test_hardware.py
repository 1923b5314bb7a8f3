"""What is determined about a machine."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.core import hardware as machine
from streamseg.core.hardware import (
    CPU_FEATURES,
    Machine,
    nvidia_gpus,
    this_machine,
    this_processor,
    versions_of,
)


@pytest.fixture
def fresh() -> Iterator[None]:
    """The cached facts about the real machine are dropped, before and after."""
    for remembered in (this_machine, this_processor):
        remembered.cache_clear()
    yield
    for remembered in (this_machine, this_processor):
        remembered.cache_clear()


def with_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(tool))


def test_this_machine_knows_its_processor() -> None:
    here = this_machine()
    assert here.processor
    assert set(here.features) <= set(CPU_FEATURES)
    assert (this_processor().processor, this_processor().features) == (here.processor, here.features)


@pytest.mark.usefixtures("fresh")
def test_the_first_gpu_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "NVIDIA H200, 143771 MiB, 580.95.05, 9.0"
    with_smi(tmp_path, monkeypatch, f"echo '{line}'; echo '{line.replace('9.0', '8.9')}'")
    here = this_machine()
    assert (here.gpu, here.compute_capability, here.driver) == ("NVIDIA H200", "9.0", "580.95.05")
    assert [gpu["compute_cap"] for gpu in nvidia_gpus()] == ["9.0", "8.9"]
    assert this_processor().gpu == ""


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "true"])
def test_a_driver_that_does_not_answer_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    with_smi(tmp_path, monkeypatch, script)
    assert nvidia_gpus() == []


def test_a_driver_that_hangs_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 15)

    monkeypatch.setattr(shutil, "which", lambda _: "nvidia-smi")
    monkeypatch.setattr(subprocess, "run", hang)
    assert nvidia_gpus() == []


@pytest.mark.usefixtures("fresh")
def test_an_arm_processor_lists_its_features_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_fields", lambda: {"Features": "fp asimd i8mm"})
    assert this_processor().features == ("asimd", "i8mm")
    monkeypatch.setattr(machine, "_cpu_fields", dict)
    this_processor.cache_clear()
    assert this_processor().features == ()


def test_it_survives_json() -> None:
    here = Machine("p", ("avx2",), "g", "9.0", "580")
    assert Machine.from_json(here.to_json()) == here
    with pytest.raises(ValueError, match="text"):
        Machine.from_json({"processor": 7, "features": []})
    with pytest.raises(TypeError):
        Machine.from_json({"processor": "p", "features": [], "more": ""})


def test_versions_are_those_of_installed_packages() -> None:
    assert set(versions_of(["numpy", "no-such-package"])) == {"numpy"}
