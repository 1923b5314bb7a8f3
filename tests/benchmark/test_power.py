"""The power and clock state, read from made-up folders of the system and a made-up nvidia-smi."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.power import power_state, slowed_by

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


def test_where_nothing_is_said_nothing_is_made_up(tools: Path, tmp_path: Path) -> None:
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


SMI = """
case "$1" in
  *{unknown}*) echo "Field is not a valid field to query."; exit 2;;
  *reasons*) echo 0x0000000000000045; echo 0x0000000000000000;;
  *) echo "Enabled, P0, 700.00, 121.05, 1980, 1980, 2619, 35"; echo "Disabled, P8, 1, 1, 1, 1, 1, 1";;
esac
"""


@pytest.mark.parametrize("unknown", ["clocks_event_reasons", "clocks_throttle_reasons"])
def test_a_gpu_of_any_driver(tools: Path, tmp_path: Path, unknown: str) -> None:
    tool(tools, "nvidia-smi", SMI.format(unknown=unknown))
    found: dict[str, Any] = power_state(tmp_path, tmp_path)["gpu"]
    assert found == {
        "persistence_mode": "Enabled",
        "performance_state": "P0",
        "power_limit_w": 700.0,
        "power_w": 121.05,
        "clock_mhz": 1980.0,
        "most_clock_mhz": 1980.0,
        "memory_clock_mhz": 2619.0,
        "celsius": 35.0,
        "slowed_by": ["power cap", "heat (hardware)"],
    }


def test_a_gpu_that_keeps_things_to_itself(tools: Path, tmp_path: Path) -> None:
    tool(
        tools,
        "nvidia-smi",
        'case "$1" in *reasons*) exit 2;; *) echo "[N/A], P0, [N/A], [N/A], 1, 1, 1, [Not Supported]";; esac',
    )
    found = power_state(tmp_path, tmp_path)["gpu"]
    assert found["persistence_mode"] is found["power_limit_w"] is found["celsius"] is None
    assert found["slowed_by"] is None


@pytest.mark.parametrize("script", ["exit 9", "echo 'no devices were found'", "exec /bin/sleep 60"])
def test_a_driver_that_does_not_answer(
    tools: Path, tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamseg.benchmark.power.TOOL_S", 0.5)
    tool(tools, "nvidia-smi", script)
    assert power_state(tmp_path, tmp_path)["gpu"] is None


def test_reasons_in_words() -> None:
    assert slowed_by("0x0000000000000001") == []
    assert slowed_by("0x0000000000000184") == ["power cap", "power brake", "display clocks"]
    assert slowed_by("[N/A]") is None


def test_this_machine() -> None:
    found = power_state()
    assert json.loads(json.dumps(found)) == found
