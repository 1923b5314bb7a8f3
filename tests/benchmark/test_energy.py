"""Energy: counters of a made-up sysfs folder, and of a compiled library with NVML's functions."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from streamseg.benchmark.energy import Energy, PowerSamples, joules_per_frame

NO_DRIVER = "libno-such-driver.so.7"
LIBRARY = """
#include <stdio.h>
#include <string.h>
static unsigned long long value(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", FOLDER, name);
    FILE *file = fopen(path, "r");
    unsigned long long found = 0;
    if (!file) return 0;
    if (fscanf(file, "%llu", &found) != 1) found = 0;
    fclose(file);
    return found;
}
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(0x7f0000000000ULL + index);
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    return nvmlDeviceGetHandleByIndex_v2(strcmp(uuid, "GPU-second") == 0, device);
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    if ((unsigned long long)device != 0x7f0000000000ULL) return 3;
    *millijoules = value("/energy");
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    *milliwatts = value("/power");
    return *milliwatts ? 0 : 3;
}
"""


def domain(powercap: Path, folder: str, name: str, energy: int, most: int = 1_000_000_000) -> Path:
    made = powercap / folder
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "energy_uj").write_text(f"{energy}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


def test_packages_are_counted_once(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 0)
    domain(tmp_path, "intel-rapl:0:0", "core", 1)
    domain(tmp_path, "intel-rapl:0:1", "dram", 1)
    domain(tmp_path, "intel-rapl:2", "psys", 1)
    domain(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)
    with Energy(tmp_path, NO_DRIVER) as energy:
        (first / "energy_uj").write_text("7500000\n")
        (second / "energy_uj").write_text("250000\n")
    assert energy.joules == {"package-0": pytest.approx(2.5), "package-1": pytest.approx(0.25)}
    assert sum((energy.joules or {}).values()) == pytest.approx(2.75)
    assert energy.why == ""
    assert joules_per_frame(energy.joules, 10) == pytest.approx(0.275)


def test_a_counter_that_begins_again(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 261_000_000, most=262_000_000)
    with Energy(tmp_path, NO_DRIVER) as energy:
        (folder / "energy_uj").write_text("3000000\n")
    assert sum((energy.joules or {}).values()) == pytest.approx(4.0)


def test_one_object_measures_block_after_block(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    energy = Energy(tmp_path, NO_DRIVER)
    for joules in (1, 2):
        (folder / "energy_uj").write_text("0")
        with energy:
            (folder / "energy_uj").write_text(f"{joules}000000")
        assert sum((energy.joules or {}).values()) == joules


def test_nothing_to_read_says_why(tmp_path: Path) -> None:
    with Energy(tmp_path, NO_DRIVER) as energy:
        pass
    assert energy.joules is None
    assert energy.joules is None
    assert str(tmp_path) in energy.why
    assert "no NVIDIA driver" in energy.why
    assert joules_per_frame(energy.joules, 10) is None


def test_a_counter_for_root_only_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 0)
    read = Path.read_text

    def refuse(path: Path, *args: str, **options: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)  # tests may run as root, whom no mode keeps out
    with Energy(tmp_path, NO_DRIVER) as energy:
        pass
    assert energy.joules is None
    assert "root only" in energy.why


def test_a_counter_that_goes_away_within_the_block(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    with Energy(tmp_path, NO_DRIVER) as energy:
        (folder / "energy_uj").write_text("nonsense")
    assert energy.joules is None
    assert "no number" in energy.why


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library with NVML's functions: GPU 0 has a counter, GPU 1 only power, both from files beside it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, made = tmp_path / "nvml.c", tmp_path / "libnvml.so"
    source.write_text(f'#define FOLDER "{tmp_path}"\n{LIBRARY}')
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, source], check=True)
    (tmp_path / "energy").write_text(str(2**40))
    (tmp_path / "power").write_text("120000")
    return made


def test_a_gpu_by_its_counter(library: Path, tmp_path: Path) -> None:
    with Energy(tmp_path / "no-rapl", str(library)) as energy:
        (tmp_path / "energy").write_text(str(2**40 + 45_000))
    assert energy.joules == {"gpu": pytest.approx(45.0)}


@pytest.mark.parametrize("visible", ["1", "1,0", "GPU-second"])
def test_a_gpu_by_its_power(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    began = time.monotonic()
    with Energy(tmp_path / "no-rapl", str(library)) as energy:
        time.sleep(0.2)
    seconds = time.monotonic() - began
    assert energy.joules is not None
    assert 0.2 * 120 <= energy.joules["gpu"] <= seconds * 120
    assert not [thread for thread in threading.enumerate() if thread.name == "streamseg-power"]


@pytest.mark.parametrize(("visible", "power"), [("1", "0"), ("", "120000"), ("-1", "120000")])
def test_a_gpu_that_says_nothing_or_is_not_seen(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, power: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (tmp_path / "power").write_text(power)
    with Energy(tmp_path / "no-rapl", str(library)) as energy:
        pass
    assert energy.joules is None
    assert energy.why


@pytest.mark.gpu
def test_a_real_gpu_counts() -> None:
    with Energy() as energy:
        time.sleep(1.0)
    assert energy.joules is not None, energy.why
    assert 1 < energy.joules["gpu"] < 5000


def test_power_is_summed_over_time() -> None:
    watts = iter([100.0, 300.0])
    samples = PowerSamples(lambda: next(watts), every_s=60)
    began = time.monotonic()
    samples.start()
    time.sleep(0.05)
    joules = samples.stop()
    assert 0.05 * 200 <= joules <= (time.monotonic() - began) * 200
