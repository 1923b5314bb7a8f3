"""Where a result is from: the machine, the versions, the commit, and what else ran meanwhile."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import streamseg
from streamseg.benchmark.power import power_state
from streamseg.core.hardware import this_machine, versions_of
from streamseg.core.types import Backend

ROOT = Path(streamseg.__file__).resolve().parents[1]
"""The checkout that the package is run from; of an installed package, a folder without a commit."""
WRITTEN = ("benchmarks/results", "README.md")
"""What benchmarks write into the checkout."""
PACKAGES = ("openvino", "opencv-python", "av", "numpy")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
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
        "engine": None if backend is None else {"name": backend.name, "sha256": backend.fingerprint},
    }


def machine_name(*, gpu: bool = True) -> str:
    """The machine in a file's name: its GPU, such as ``nvidia-h200``, where it has one, else its processor,
    such as ``xeon-2-cores``; False is the processor in any case, for what runs on it alone.
    """
    machine = this_machine()
    if gpu and machine.gpu:
        return "-".join(re.findall(r"[a-z0-9]+", machine.gpu.lower()))
    words = re.findall(r"[a-z]+[a-z0-9]*", machine.processor.lower())
    known = [word for word in words if word in FAMILIES]
    return f"{(known or words or ['machine'])[0]}-{os.cpu_count()}-cores"


def commit() -> str:
    """The checkout's commit, ``-dirty`` where files differ from it; empty where there is none.

    What a benchmark itself writes, results and the README's tables, does not count.
    """
    name = _git("describe", "--always")
    if name is None:
        return ""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *map(":!{}".format, WRITTEN))
    return name + "-dirty" * bool(changed)


def _git(*arguments: str) -> str | None:
    """What git says about the checkout; None where it does not know it."""
    call = ["git", "-C", str(ROOT), *arguments]
    try:
        found = subprocess.run(call, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if found.returncode else found.stdout.strip()


def last_level_cache(folder: Path = CACHES) -> int:
    """Bytes of the processor's largest cache, 0 where Linux does not say."""
    sizes = [0]
    for path in folder.glob("index*/size"):
        if match := re.fullmatch(r"(\d+)([KMG]?)", path.read_text(encoding="ascii").strip()):
            sizes.append(int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]])
    return max(sizes)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Processor time so far, seconds over all cores."""

    elapsed: float
    """All of it, idle included."""
    busy: float
    """Spent on anything, stolen by the host included."""
    own: float
    """Spent by this process and those of its children that it has waited for."""

    @classmethod
    def now(cls) -> Self | None:
        """None where Linux' ``/proc/stat`` cannot be read."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        except OSError:
            return None
        user, nice, system, idle, wait, irq, soft, steal = (
            int(field) / os.sysconf("SC_CLK_TCK") for field in line.split()[1:9]
        )
        busy = user + nice + system + irq + soft + steal
        return cls(busy + idle + wait, busy, sum(os.times()[:4]))


class Bystanders:
    """How much of the machine others took while a block ran: a measurement on a busy machine must say so."""

    share: float | None = None
    """Of all cores' time, 0..1, what others spent, a host's stealing included; None where unknown."""

    def __enter__(self) -> Self:
        self._before = Ticks.now()
        return self

    def __exit__(self, *exc: object) -> None:
        after = Ticks.now()
        if self._before is not None and after is not None and after.elapsed > self._before.elapsed:
            others = (after.busy - self._before.busy) - (after.own - self._before.own)
            share = others / (after.elapsed - self._before.elapsed)
            self.share = round(min(1.0, max(0.0, share)), 3)
