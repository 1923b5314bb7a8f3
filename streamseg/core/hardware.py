"""The processor's features, the GPU, versions of libraries and the thread count of inference."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from streamseg.core.errors import UsageError
from streamseg.core.numbers import read_integer

THREADS_VARIABLE = "STREAMSEG_THREADS"
"""Environment variable with the number of threads for inference; unset: the library's choice."""


def usable_cores() -> int:
    """Processors that this process may use, by its affinity and by its container's limit; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _container_limit()
    return max(1, cores if limit is None else min(cores, math.ceil(limit)))


def memory_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes of memory that the control groups of this process allow it; None without a limit."""
    limits = []
    for version, folder in _groups("memory", root, own):
        file = folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")
        with suppress(OSError):
            limits.append(
                read_integer(file.read_text(encoding="ascii", errors="replace").strip(), 1, 1 << 50)
            )
    return min((limit for limit in limits if limit is not None), default=None)


def _container_limit(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Processors that the control groups of this process allow it, version 2 or 1; None without a limit."""
    limits = [
        _quota(folder / "cpu.max")
        if version == 2
        else _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        for version, folder in _groups("cpu", root, own)
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _groups(controller: str, root: Path, own: Path) -> Iterator[tuple[int, Path]]:
    """Version and folder of the control groups of this process that a controller belongs to."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            yield from ((2, folder) for folder in _ancestors(root, group))
        elif controller in controllers.split(","):
            for base in (root / controller, root / controllers):
                yield from ((1, folder) for folder in _ancestors(base, group))


def _ancestors(root: Path, group: str) -> list[Path]:
    """The folder of a control group and those above it; in a container of its own the group is the root."""
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    return [root.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota(*files: Path) -> float | None:
    """Quota divided by period, both in the files' text; None for no limit."""
    try:
        words = " ".join(file.read_text(encoding="ascii", errors="replace") for file in files).split()
    except OSError:
        return None
    numbers = [read_integer(word, 1, 10**12) for word in words[:2]]
    if len(numbers) < 2 or numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0] / numbers[1]


def thread_count(threads: int | None) -> int | None:
    """The number of threads, or None for the library's choice. ``threads`` None follows the environment.

    Libraries count the machine's processors: if this process may use fewer, their number is what is returned
    without a choice.

    Raises UsageError for a number below 1, or text that is not a number.
    """
    text = os.environ.get(THREADS_VARIABLE, "")
    if threads is None and text:
        try:
            threads = int(text)
        except ValueError:
            raise UsageError(
                f"{THREADS_VARIABLE} must be a number of threads, received {text!r}; correct or unset it"
            ) from None
    if threads is not None and threads < 1:
        raise UsageError(f"inference needs at least 1 thread, received {threads}")
    if threads is None and (usable := usable_cores()) < (os.cpu_count() or 1):
        return usable
    return threads


CPU_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "i8mm",
)
"""The processor features that decide which arithmetic inference uses, and its speed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, as far as engines depend on it."""

    processor: str
    """Human-readable model name."""
    features: tuple[str, ...]
    """The processor's features out of CPU_FEATURES."""
    gpu: str = ""
    """Model name of the first NVIDIA GPU; empty without one."""
    compute_capability: str = ""
    """Such as ``9.0``; empty without an NVIDIA GPU."""
    driver: str = ""
    """Version of NVIDIA's driver; empty without one."""

    def to_json(self) -> dict[str, Any]:
        """Strings and a list."""
        return asdict(self) | {"features": list(self.features)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Machine:
        """Raises TypeError or ValueError for values of another shape."""
        machine = cls(**{**values, "features": tuple(values["features"])})
        texts = (
            machine.processor,
            *machine.features,
            machine.gpu,
            machine.compute_capability,
            machine.driver,
        )
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a machine is described by text")
        return machine


@lru_cache(maxsize=1)
def this_processor() -> Machine:
    """This machine without its GPU."""
    fields = _cpu_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    model = fields.get("model name") or platform.processor() or platform.machine()
    return Machine(model, tuple(feature for feature in CPU_FEATURES if feature in flags))


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """This machine. Calls nvidia-smi once."""
    found = nvidia_gpus()
    gpu = found[0] if found else {}
    return replace(
        this_processor(),
        gpu=gpu.get("name", ""),
        compute_capability=gpu.get("compute_cap", ""),
        driver=gpu.get("driver_version", ""),
    )


def nvidia_gpus() -> list[dict[str, str]]:
    """Name, memory.total, driver_version and compute_cap of each GPU, as given by nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    names = ("name", "memory.total", "driver_version", "compute_cap")
    call = [tool, f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(call, capture_output=True, text=True, timeout=15, check=True)
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer drives no engine either
    rows = (line.split(",") for line in answer.stdout.splitlines() if line.strip())
    return [
        dict(zip(names, (value.strip() for value in row), strict=True))
        for row in rows
        if len(row) == len(names)
    ]


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of the packages, of those that are installed; imports none of them."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_fields() -> dict[str, str]:
    """First value of each key of /proc/cpuinfo; empty if there is no such file."""
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    return fields
