"""Joules that a block of work took, as processor packages (RAPL) and an NVIDIA GPU (NVML) count them.

What they count is the whole package or board: idle power and others' work are in it. Counters move every
millisecond (RAPL) to hundred milliseconds (NVML), so a block should last a second or more; and less than the
quarter of an hour or so after which RAPL's begin again for the second time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, Self

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
VISIBLE = "CUDA_VISIBLE_DEVICES"
SAMPLE_S = 0.05
"""Between two looks at the power of a GPU that has no counter."""


class Meter(Protocol):
    """Counts the energy of one part of the machine."""

    name: str
    """``package-0``, ``gpu``."""

    def start(self) -> None:
        """Begin a block. Raises OSError."""

    def stop(self) -> float:
        """End it: joules since :meth:`start`. Raises OSError."""


class Energy:
    """Joules of a ``with`` block, by part of the machine; where nothing can be read, None and why."""

    def __init__(self, powercap: Path = POWERCAP, nvml: str = NVML) -> None:
        self.joules: dict[str, float] | None = None
        """After the block: such as ``{"package-0": 31.2, "gpu": 870.0}``."""
        self.why: str = ""
        """Where ``joules`` is None, the reason; empty otherwise."""
        self._places = powercap, nvml
        self._meters: list[Meter] = []
        self._close = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.joules, self.why = None, ""
        powercap, nvml = self._places
        found: list[Meter] = []
        reasons = []
        for find in (lambda: [gpu(self._close.enter_context(open_nvml(nvml)))], lambda: packages(powercap)):
            try:
                found += find()
            except OSError as error:
                reasons.append(str(error))
        for meter in found:  # once all are there: to open a driver takes a while
            try:
                meter.start()
                self._meters.append(meter)
            except OSError as error:
                reasons.append(str(error))
        self.why = "" if self._meters else "; ".join(reasons)
        return self

    def __exit__(self, *exc: object) -> None:
        found = {}
        with self._close:
            for meter in self._meters:
                try:
                    found[meter.name] = meter.stop()
                except OSError as error:
                    self.why = str(error)
        self._meters = []
        if found:
            self.joules, self.why = found, ""


class Package:
    """A processor package's counter, which begins again at 0 after the most that it holds."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError, saying what to do where only root may read it."""
        self.name = (folder / "name").read_text(encoding="ascii").strip()
        self._counter = folder / "energy_uj"
        self._most = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        self._began = self._read()

    def start(self) -> None:
        self._began = self._read()

    def stop(self) -> float:
        moved = self._read() - self._began
        return (moved if moved >= 0 else moved + self._most) / 1e6

    def _read(self) -> int:
        try:
            return int(self._counter.read_text(encoding="ascii"))
        except PermissionError as error:
            raise PermissionError(f"{self._counter} may be read by root only") from error
        except ValueError as error:
            raise OSError(f"{self._counter} holds no number") from error


def packages(powercap: Path = POWERCAP) -> list[Package]:
    """The processor's packages, AMD's too. Raises OSError where none can be read.

    Only those: cores, graphics and memory controller below one are counted in it already, and so is it in the
    ``psys`` of a laptop.
    """
    folders = sorted(powercap.glob("intel-rapl:*"))
    named = [folder for folder in folders if (folder / "name").is_file()]
    found = [folder for folder in named if (folder / "name").read_text().startswith("package")]
    if not found:
        raise FileNotFoundError(f"the processor's energy is not counted in {powercap}")
    return [Package(folder) for folder in found]


class Gpu:
    """A GPU's counter of millijoules; for one without, its power, looked at every now and then."""

    name = "gpu"

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        """Raises OSError where it has neither."""
        self._library, self._handle = library, handle
        self._samples: PowerSamples | None = None
        self._began = 0
        try:
            self._counter()
        except OSError:
            self._power()
            self._samples = PowerSamples(self._power)

    def start(self) -> None:
        if self._samples is None:
            self._began = self._counter()
        else:
            self._samples.start()

    def stop(self) -> float:
        if self._samples is None:
            return (self._counter() - self._began) / 1e3
        return self._samples.stop()

    def _counter(self) -> int:
        """Millijoules since the driver was loaded: Volta and newer."""
        value = ctypes.c_ulonglong()
        _checked(self._library, "nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(value))
        return value.value

    def _power(self) -> float:
        """Watts."""
        value = ctypes.c_uint()
        _checked(self._library, "nvmlDeviceGetPowerUsage", self._handle, ctypes.byref(value))
        return value.value / 1e3


class PowerSamples:
    """Joules from watts that are looked at in a thread: the mean of neighbours times the time between."""

    def __init__(self, watts: Callable[[], float], every_s: float = SAMPLE_S) -> None:
        self._watts, self._every_s = watts, every_s
        self._done = threading.Event()
        self._taken: list[tuple[float, float]] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises OSError where power cannot be read."""
        self._done.clear()
        self._taken = [self._sample()]
        self._thread = threading.Thread(target=self._run, name="streamseg-power", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Joules since :meth:`start`. Raises OSError where power cannot be read any longer."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._taken.append(self._sample())
        pairs = zip(self._taken, self._taken[1:], strict=False)
        return sum((later - earlier) * (a + b) / 2 for (earlier, a), (later, b) in pairs)

    def _sample(self) -> tuple[float, float]:
        return time.monotonic(), self._watts()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the last look, in stop, tells
            while not self._done.wait(self._every_s):
                self._taken.append(self._sample())


@contextlib.contextmanager
def open_nvml(name: str = NVML) -> Iterator[ctypes.CDLL]:
    """NVIDIA's management library, which comes with the driver. Raises OSError without one."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise FileNotFoundError("there is no NVIDIA driver") from error
    _checked(library, "nvmlInit_v2")
    try:
        yield library
    finally:
        library.nvmlShutdown()


def gpu(library: ctypes.CDLL) -> Gpu:
    """The GPU that engines run on: the first that CUDA sees, as far as CUDA_VISIBLE_DEVICES tells.

    Raises OSError where there is none, or where it has neither counter nor power (a part of one, by MIG).
    """
    count = ctypes.c_uint()
    _checked(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    first = os.environ.get(VISIBLE, "0").split(",")[0].strip()
    if count.value == 0 or not first or first == "-1":
        raise FileNotFoundError("the NVIDIA driver has no GPU, or CUDA is kept from seeing it")
    handle = ctypes.c_void_p()
    if first.isdecimal():
        index = ctypes.c_uint(int(first))
        _checked(library, "nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
    else:
        _checked(library, "nvmlDeviceGetHandleByUUID", first.encode(), ctypes.byref(handle))
    return Gpu(library, handle)


def _checked(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call it. Raises OSError with NVML's number for what went wrong."""
    try:
        code = getattr(library, function)(*arguments)
    except AttributeError as error:
        raise OSError(f"the NVIDIA driver is too old for {function}") from error
    if code != 0:
        raise OSError(f"{function} failed with {code}")


def joules_per_frame(energy: Mapping[str, float] | None, frames: int) -> float | None:
    """Joules of all parts for each of so many frames; None where nothing was read or done."""
    return sum(energy.values()) / frames if energy and frames > 0 else None
