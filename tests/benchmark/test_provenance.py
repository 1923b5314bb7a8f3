"""Provenance of results, and the power and clock state of made-up machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.benchmark import provenance as module
from streamseg.benchmark.provenance import (
    SLOWED_BY,
    CpuTimes,
    OtherLoad,
    last_level_cache,
    machine_name,
    power_state,
    provenance,
)
from streamseg.core.hardware import Machine
from streamseg.core.types import InputSpec


def test_a_result_says_where_it_is_from() -> None:
    found = provenance(FakeBackend(InputSpec(32, 32, 0.0, 1.0, 0.5)), packages=("numpy", "no-such-package"))
    assert json.loads(json.dumps(found)) == found
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["machine"]["cores"] == os.cpu_count()
    assert "numpy" in found["machine"]
    assert "no-such-package" not in found["machine"]
    assert found["engine"]["name"] == "fake"
    assert provenance()["engine"] is None


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (Machine("Intel(R) Xeon(R) Processor", ()), f"xeon-{os.cpu_count()}-cores"),
        (Machine("ARMv8", ()), f"armv8-{os.cpu_count()}-cores"),
        (Machine("", ()), f"machine-{os.cpu_count()}-cores"),
        (Machine("AMD EPYC 9474F", (), gpu="NVIDIA H200", compute_capability="9.0"), "nvidia-h200"),
    ],
)
def test_the_machine_in_a_files_name(machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "this_machine", lambda: machine)
    assert machine_name() == name
    assert machine_name(gpu=False).endswith("-cores")


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert module.commit() == ""


def test_a_changed_source_makes_a_commit_dirty_and_a_new_result_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    result, source = tmp_path / "benchmarks/results/one.json", tmp_path / "code.py"
    result.parent.mkdir(parents=True)
    for path in (result, source):
        path.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "One")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    clean = module.commit()
    assert clean
    assert not clean.endswith("-dirty")
    result.write_text("2")
    assert module.commit() == clean
    source.write_text("2")
    assert module.commit() == f"{clean}-dirty"


def test_the_cache_is_known_or_zero() -> None:
    assert last_level_cache() >= 0


def test_the_largest_cache_counts_in_any_unit(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "1G", "2M", "", "unknown")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache(tmp_path) == 2**30
    assert last_level_cache(tmp_path / "none") == 0


@pytest.mark.skipif(CpuTimes.now() is None, reason="needs /proc/stat")
def test_work_of_others_shows_and_own_work_does_not() -> None:
    spin = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as other:
        time.sleep(0.3)
        with OtherLoad() as busy:
            time.sleep(0.5)
        other.kill()
    assert busy.share is not None
    assert busy.share > 0.3 / (os.cpu_count() or 1)


@pytest.mark.skipif(CpuTimes.now() is None, reason="needs /proc/stat")
def test_own_work_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([CpuTimes(100.0, 50.0, 10.0), CpuTimes(110.0, 58.0, 17.0)])
    monkeypatch.setattr(module.CpuTimes, "now", lambda: next(ticks))
    with OtherLoad() as found:
        pass
    assert found.share == pytest.approx(0.1)


NOTHING = {"now": None, "min": None, "max": None, "least": None, "most": None}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which tools are found; empty."""
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    return tmp_path / "tools"


def test_what_the_system_does_not_say_is_none(tools: Path, tmp_path: Path) -> None:
    assert power_state(tmp_path, tmp_path) == {
        "governor": None,
        "boost": None,
        "clock_mhz": NOTHING,
        "hypervisor": None,
        "memory_bytes": None,
        "supply": None,
        "gpu": None,
    }


def test_a_laptop(tools: Path, tmp_path: Path) -> None:
    cpu = "devices/system/cpu"
    sys = write(
        tmp_path / "sys",
        {
            f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave",
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "1400000",
            f"{cpu}/cpu0/cpufreq/scaling_min_freq": "400000",
            f"{cpu}/cpu0/cpufreq/scaling_max_freq": "4800000",
            f"{cpu}/cpu1/cpufreq/scaling_governor": "performance",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "3100000",
            f"{cpu}/intel_pstate/no_turbo": "1",
            "class/power_supply/AC/type": "Mains",
            "class/power_supply/AC/online": "0",
            "class/power_supply/BAT0/type": "Battery",
            "class/power_supply/BAT0/status": "Discharging",
            "class/power_supply/BAT0/serial_number": "SECRET",
        },
    )
    proc = write(tmp_path / "proc", {"cpuinfo": "flags\t: fpu avx2", "meminfo": "MemTotal:    16000000 kB"})
    found = power_state(sys, proc)
    assert found["governor"] == "performance, powersave"
    assert found["boost"] is False
    assert found["clock_mhz"] == {"now": 1400, "min": 400, "max": 4800, "least": 1400, "most": 3100}
    assert found["hypervisor"] == "none"
    assert found["memory_bytes"] == 16_384_000_000
    assert found["supply"] == "battery"
    assert "SECRET" not in json.dumps(found)


@pytest.mark.parametrize(
    ("files", "supply"),
    [
        ({"AC/type": "Mains", "AC/online": "1", "BAT0/type": "Battery", "BAT0/status": "Charging"}, "mains"),
        ({"BAT0/type": "Battery", "BAT0/status": "Full"}, "mains"),
        ({"mouse/type": "Battery", "mouse/scope": "Device", "mouse/status": "Discharging"}, None),
    ],
)
def test_the_power_supply(tools: Path, tmp_path: Path, files: dict[str, str], supply: str | None) -> None:
    write(tmp_path / "class/power_supply", files)
    assert power_state(tmp_path, tmp_path)["supply"] == supply


def test_a_virtual_machine_without_cpufreq(tools: Path, tmp_path: Path) -> None:
    write(tmp_path, {"cpuinfo": "cpu MHz\t: 2100.005\nflags\t: fpu hypervisor\ncpu MHz\t: 2900.1"})
    found = power_state(tmp_path, tmp_path)
    assert found["clock_mhz"] == NOTHING | {"now": 2100, "least": 2100, "most": 2900}
    assert found["hypervisor"] == "unknown"
    tool(tools, "systemd-detect-virt", "echo kvm")
    assert power_state(tmp_path, tmp_path)["hypervisor"] == "kvm"


def test_bare_metal_by_the_tool(tools: Path, tmp_path: Path) -> None:
    tool(tools, "systemd-detect-virt", "echo none; exit 1")
    assert power_state(tmp_path, tmp_path)["hypervisor"] == "none"


class Nvml(ModuleType):
    """A stand-in for pynvml with one GPU, which supports nothing where ``dumb``."""

    NVMLError = type("NVMLError", (Exception,), {})
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    bits: ClassVar = {"ApplicationsClocksSetting": 2, "SwPowerCap": 4, "HwSlowdown": 8, "SyncBoost": 16}
    bits |= {"SwThermalSlowdown": 32, "HwThermalSlowdown": 64, "HwPowerBrakeSlowdown": 128}
    bits |= {"DisplayClockSetting": 256}

    def __init__(self, *, dumb: bool = False, driver: bool = True, reasons: int = 0x45) -> None:
        super().__init__("pynvml")
        self.dumb, self.driver, self.open = dumb, driver, 0
        answers = {
            "PersistenceMode": 1, "PerformanceState": 0, "CurrentClocksEventReasons": reasons,
            "PowerManagementLimit": 700_000, "PowerUsage": 121_050, "Temperature": 35,
        }  # fmt: skip
        for name, answer in answers.items():
            setattr(self, f"nvmlDeviceGet{name}", lambda *_, answer=answer: self._answer(answer))
        self.nvmlDeviceGetClockInfo = lambda _, kind: self._answer({1: 1980, 2: 2619}[kind])
        self.nvmlDeviceGetMaxClockInfo = lambda *_: self._answer(1980)
        for name, bit in self.bits.items():
            setattr(self, f"nvmlClocksEventReason{name}", bit)

    def _answer(self, value: int) -> int:
        if self.dumb:
            raise self.NVMLError("not supported")
        return value

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("driver not loaded")
        self.open += 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1


def gpu_by(nvml: ModuleType | None, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return power_state(folder, folder)["gpu"]


def test_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = Nvml()
    assert gpu_by(nvml, monkeypatch, tmp_path) == {
        "persistence_mode": "Enabled",
        "performance_state": "P0",
        "power_limit_w": 700.0,
        "power_w": 121.05,
        "clock_mhz": 1980,
        "most_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "celsius": 35,
        "slowed_by": ["power cap", "heat (hardware)"],
    }
    assert nvml.open == 0


def test_a_gpu_that_supports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = gpu_by(Nvml(dumb=True), monkeypatch, tmp_path)
    assert len(found) == 9
    assert set(found.values()) == {None}


def test_no_driver_or_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert gpu_by(Nvml(driver=False), monkeypatch, tmp_path) is None
    assert gpu_by(None, monkeypatch, tmp_path) is None


@pytest.mark.parametrize(
    ("bits", "words"), [(1, []), (0x184, ["power cap", "power brake", "display clocks"])]
)
def test_reasons_for_lower_clocks_in_words(
    bits: int, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert gpu_by(Nvml(reasons=bits), monkeypatch, tmp_path)["slowed_by"] == words


def test_nvml_has_all_that_is_asked_for() -> None:
    nvml = pytest.importorskip("pynvml")
    assert all(hasattr(nvml, f"nvmlClocksEventReason{name}") for name in SLOWED_BY)
    asked = [name for name in vars(Nvml()) if name.startswith("nvmlDeviceGet")]
    assert len(asked) == 8
    assert all(hasattr(nvml, name) for name in asked)


def test_this_machine() -> None:
    found = power_state()
    assert json.loads(json.dumps(found)) == found
