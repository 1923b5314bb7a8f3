"""The provenance of a result: machine, power and clock state, versions, commit, and the load by others.

Only what concerns speed is read: no names of hosts, no serial numbers.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import streamseg
from streamseg.core.engine_info import EngineInfo
from streamseg.core.hardware import this_machine, versions_of
from streamseg.core.types import Backend

ROOT = Path(streamseg.__file__).resolve().parents[1]
"""The checkout that the package is run from; of an installed package, a folder without a commit."""
WRITTEN = ("benchmarks/results", "README.md", "docs/results.md")
"""Files of the checkout that benchmarks write."""
PACKAGES = ("openvino", "opencv-python", "av", "numpy")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
SYS = Path("/sys")
PROC = Path("/proc")
TOOL_S = 5.0
"""Seconds that a tool may take to answer."""
SLOWED_BY = {
    "ApplicationsClocksSetting": "application clocks",
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "heat (software)",
    "HwThermalSlowdown": "heat (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
    "DisplayClockSetting": "display clocks",
}
"""Names of NVML's reasons for lower clocks, and ours; that a GPU is idle is not one of them."""
FAMILIES = ("xeon", "epyc", "ryzen", "core", "ultra", "cortex", "neoverse", "apple")


def provenance(backend: Backend | None = None, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """``date``, ``machine`` (processor, cores, features, GPU, load, power and clock state, versions,
    commit) and ``engine``.

    ``packages`` whose versions count; those that are not installed are left out. Values for JSON.
    """
    machine = this_machine()
    gpu = {"gpu": machine.gpu, "compute_capability": machine.compute_capability, "driver": machine.driver}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processor": machine.processor,
            "cores": os.cpu_count(),
            "features": list(machine.features),
            **(gpu if machine.gpu else {}),
            "last_level_cache_bytes": last_level_cache(),
            "load": round(os.getloadavg()[0], 2),
            "power": power_state(),
            "python": platform.python_version(),
            **versions_of(packages),
            "commit": commit(),
        },
        "engine": None if backend is None else EngineInfo.of(backend).identity(),
    }


def machine_name(*, gpu: bool = True) -> str:
    """The machine in a file's name: its GPU, such as ``nvidia-h200``, if it has one, else its processor,
    such as ``xeon-2-cores``; False is the processor in any case, for what runs on it alone.
    """
    machine = this_machine()
    if gpu and machine.gpu:
        return "-".join(re.findall(r"[a-z0-9]+", machine.gpu.lower()))
    words = re.findall(r"[a-z]+[a-z0-9]*", machine.processor.lower())
    known = [word for word in words if word in FAMILIES]
    return f"{(known or words or ['machine'])[0]}-{os.cpu_count()}-cores"


def commit() -> str:
    """The checkout's commit, ``-dirty`` if files differ from it; empty without one.

    What a benchmark itself writes, results and the tables in the documents, does not count.
    """
    name = _git("describe", "--always")
    if name is None:
        return ""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *map(":!{}".format, WRITTEN))
    return name + "-dirty" * bool(changed)


def _git(*arguments: str) -> str | None:
    """The output of git in the checkout; None if it fails."""
    call = ["git", "-C", str(ROOT), *arguments]
    try:
        found = subprocess.run(call, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if found.returncode else found.stdout.strip()


def last_level_cache(folder: Path = CACHES) -> int:
    """Bytes of the processor's largest cache; 0 if unknown."""
    sizes = [0]
    for path in folder.glob("index*/size"):
        if match := re.fullmatch(r"(\d+)([KMG]?)", path.read_text(encoding="ascii").strip()):
            sizes.append(int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]])
    return max(sizes)


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Processor time so far, seconds over all cores."""

    elapsed: float
    """All of it, idle included."""
    busy: float
    """Spent on anything, stolen by the host included."""
    own: float
    """Spent by this process and those of its children that it has waited for."""

    @classmethod
    def now(cls) -> Self | None:
        """None if Linux' ``/proc/stat`` cannot be read."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        except OSError:
            return None
        user, nice, system, idle, wait, irq, soft, steal = (
            int(field) / os.sysconf("SC_CLK_TCK") for field in line.split()[1:9]
        )
        busy = user + nice + system + irq + soft + steal
        return cls(busy + idle + wait, busy, sum(os.times()[:4]))


class OtherLoad:
    """Measures the share of CPU time that other processes used during a block."""

    share: float | None = None
    """Share of all cores' time, 0..1, that others used, including what the host took; None if unknown."""

    def __enter__(self) -> Self:
        self._before = CpuTimes.now()
        return self

    def __exit__(self, *exc: object) -> None:
        after = CpuTimes.now()
        if self._before is not None and after is not None and after.elapsed > self._before.elapsed:
            others = (after.busy - self._before.busy) - (after.own - self._before.own)
            share = others / (after.elapsed - self._before.elapsed)
            self.share = round(min(1.0, max(0.0, share)), 3)


def power_state(sys: Path = SYS, proc: Path = PROC) -> dict[str, Any]:
    """The power and clock state; None for what the system does not say, as on most virtual machines.

    - ``governor``: of cpufreq, several with a comma; ``boost``: may cores go beyond their rated clock
    - ``clock_mhz``: of the first core ``now``, ``min`` and ``max``, and over all cores ``least`` and ``most``
    - ``hypervisor``: its name, ``unknown`` for one that does not tell, ``none`` on bare metal
    - ``memory_bytes``; ``supply``: ``mains`` or ``battery``
    - ``gpu``: the first NVIDIA GPU's state and ``slowed_by``, the reasons why its clocks are below the most
    """
    return {
        **_clocks(sys, proc),
        "hypervisor": _hypervisor(sys, proc),
        "memory_bytes": _memory(proc),
        "supply": _supply(sys),
        "gpu": _gpu(),
    }


def _clocks(sys: Path, proc: Path) -> dict[str, Any]:
    """The governor, boost and clocks, from cpufreq or /proc/cpuinfo."""
    policies = sorted(sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq"), key=lambda path: path.parent.name)
    first = sys / "devices/system/cpu/cpu0/cpufreq"
    governors = {found for path in policies if (found := _text(path / "scaling_governor"))}
    now = [mhz for path in policies if (mhz := _mhz(path / "scaling_cur_freq")) is not None]
    own = _mhz(first / "scaling_cur_freq")
    if not now:
        now = _cpuinfo_mhz(proc)
        own = now[0] if now else None
    clock = {
        "now": own,
        "min": _mhz(first / "scaling_min_freq"),
        "max": _mhz(first / "scaling_max_freq"),
        "least": min(now, default=None),
        "most": max(now, default=None),
    }
    return {"governor": ", ".join(sorted(governors)) or None, "boost": _boost(sys), "clock_mhz": clock}


def _boost(sys: Path) -> bool | None:
    allowed = _text(sys / "devices/system/cpu/cpufreq/boost")
    if allowed is not None:
        return allowed == "1"
    forbidden = _text(sys / "devices/system/cpu/intel_pstate/no_turbo")
    return None if forbidden is None else forbidden == "0"


def _cpuinfo_mhz(proc: Path) -> list[float]:
    lines = (line.partition(":") for line in (_text(proc / "cpuinfo") or "").splitlines())
    return [
        round(number) for key, _, value in lines if key.strip() == "cpu MHz" and (number := _number(value))
    ]


def _hypervisor(sys: Path, proc: Path) -> str | None:
    """``none`` only if x86's flag or the tool says so."""
    flagged = [line for line in (_text(proc / "cpuinfo") or "").splitlines() if line.startswith("flags")]
    virtual = any("hypervisor" in line.split() for line in flagged)
    named = _text(sys / "hypervisor/type") or _answer("systemd-detect-virt", "--vm")
    if named and named != "none":
        return named
    return "unknown" if virtual else "none" if flagged or named else None


def _memory(proc: Path) -> int | None:
    for line in (_text(proc / "meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    return None


def _supply(sys: Path) -> str | None:
    """``mains`` if one is on line, else ``battery`` if the machine's own discharges."""
    supplies = sorted((sys / "class/power_supply").glob("*"))
    # A mouse or a pen has a battery too, whose scope is the device.
    own = [path for path in supplies if _text(path / "scope") != "Device"]
    if any(_text(path / "type") != "Battery" and _text(path / "online") == "1" for path in own):
        return "mains"
    states = [_text(path / "status") for path in own if _text(path / "type") == "Battery"]
    return "battery" if "Discharging" in states else "mains" if states else None


def _gpu() -> dict[str, Any] | None:
    """The first NVIDIA GPU's state by NVML, None for what it does not support; None without a GPU or the
    package nvidia-ml-py."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # no package, no driver, or one that does not fit the other
        return None

    def ask(name: str, *arguments: object) -> Any:
        try:
            return getattr(nvml, f"nvmlDeviceGet{name}")(nvml.nvmlDeviceGetHandleByIndex(0), *arguments)
        except nvml.NVMLError:
            return None

    def watts(milliwatts: int | None) -> float | None:
        return None if milliwatts is None else milliwatts / 1e3

    try:
        persistence, state, reasons = map(
            ask, ("PersistenceMode", "PerformanceState", "CurrentClocksEventReasons")
        )
        slowed = [ours for name, ours in SLOWED_BY.items() if (reasons or 0) & _reason(nvml, name)]
        return {
            "persistence_mode": None if persistence is None else ("Disabled", "Enabled")[persistence],
            "performance_state": None if state is None else f"P{state}",
            "power_limit_w": watts(ask("PowerManagementLimit")),
            "power_w": watts(ask("PowerUsage")),
            "clock_mhz": ask("ClockInfo", nvml.NVML_CLOCK_SM),
            "most_clock_mhz": ask("MaxClockInfo", nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": ask("ClockInfo", nvml.NVML_CLOCK_MEM),
            "celsius": ask("Temperature", nvml.NVML_TEMPERATURE_GPU),
            "slowed_by": None if reasons is None else slowed,
        }
    finally:
        nvml.nvmlShutdown()


def _reason(nvml: Any, name: str) -> int:
    """The bit of a reason for lower clocks."""
    bit: int = getattr(nvml, f"nvmlClocksEventReason{name}")
    return bit


def _answer(tool: str, *arguments: str) -> str | None:
    """The output of a tool; None without such a tool, or if it does not answer in time.

    systemd-detect-virt ends with 1 when it says ``none``.
    """
    path = shutil.which(tool)
    if path is None:
        return None
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=TOOL_S)
    except (OSError, subprocess.SubprocessError):
        return None
    answer = done.stdout.strip()
    return answer if done.returncode == 0 or answer == "none" else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _mhz(path: Path) -> float | None:
    """Of a file in kHz."""
    khz = _number(_text(path) or "")
    return None if khz is None else round(khz / 1e3)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
