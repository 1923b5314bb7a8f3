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


def control_groups(folder: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    root = folder / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (folder / "self").write_text(own)
    return {"root": root, "own": folder / "self"}


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # Docker and Podman with --cpus 1.5
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "200000 100000", "a.slice/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1.0),
        ("0::/gone\n", {"cpu.max": "400000 100000"}, 4.0),
        (
            "3:cpu,cpuacct:/docker/a\n2:memory:/x\n",
            {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "9" * 5000 + " 1"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("0::/../../etc\n", {"cpu.max": "100000 100000"}, 1.0),
        ("rubbish\n", {"cpu.max": ""}, None),
        ("", {}, None),
    ],
)
def test_a_container_s_limit_is_found(
    tmp_path: Path, own: str, files: dict[str, str], limit: float | None
) -> None:
    assert machine._container_limit(**control_groups(tmp_path, own, files)) == limit
    assert machine._container_limit(tmp_path, tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "536870912\n"}, 1 << 29),  # Docker and Podman with --memory 512m
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/a.slice/b\n", {"a.slice/memory.max": "1000", "a.slice/b/memory.max": "max"}, 1000),
        ("4:memory:/docker/a\n", {"memory/memory.limit_in_bytes": "1073741824\n"}, 1 << 30),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("4:cpu:/\n", {"memory/memory.limit_in_bytes": "1000\n"}, None),
        ("0::/\n", {"memory.max": "9" * 5000}, None),
    ],
)
def test_a_container_s_memory_limit_is_found(
    tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    assert machine.memory_limit(**control_groups(tmp_path, own, files)) == limit
    assert machine.memory_limit(tmp_path, tmp_path / "nothing") is None


def test_threads_follow_the_limits_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container of 2 of 64 processors libraries started 64 threads, which hold one another up."""
    monkeypatch.delenv("STREAMSEG_THREADS", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_container_limit", lambda: None)
    assert (machine.usable_cores(), machine.thread_count(None)) == (8, 8)
    monkeypatch.setattr(machine, "_container_limit", lambda: 1.5)
    assert (machine.usable_cores(), machine.thread_count(None)) == (2, 2)
    monkeypatch.setattr(machine, "_container_limit", lambda: 0.1)
    assert machine.usable_cores() == 1
    assert machine.thread_count(5) == 5
    monkeypatch.setenv("STREAMSEG_THREADS", "3")
    assert machine.thread_count(None) == 3
    monkeypatch.delenv("STREAMSEG_THREADS")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(machine, "_container_limit", lambda: None)
    assert machine.thread_count(None) is None  # no limit: the library's choice
