"""A frame grabber for tests, emulated in user space behind the calls that a real one answers.

``emulated_device`` gives the device; a program started with its ``env`` finds it at its ``path``. Its
behaviour can be changed while it is read, from any process.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg.core.types import Image
from tests.capture.media import picture

PATH = "/dev/video97"
FAST = Fraction(100)
"""A frame rate at which tests are short."""
WIDTH, HEIGHT = 160, 120
_SOURCE = Path(__file__).with_name("v4l2_emulator.c")


@dataclass(frozen=True)
class Mode:
    """One format that the device offers; ``field`` is an ``enum v4l2_field``."""

    code: str = "YUYV"
    width: int = WIDTH
    height: int = HEIGHT
    rate: Fraction = Fraction(30)
    field: int = 1


class EmulatedDevice:
    """The emulated grabber, described by its control file."""

    def __init__(self, control: Path, path: str = PATH) -> None:
        self.path = path
        """Where programs find it."""
        self.control = control

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program that sees the device."""
        return {
            **os.environ,
            "LD_PRELOAD": str(library()),
            "STREAMSEG_FAKE_V4L2": self.path,
            "STREAMSEG_FAKE_V4L2_CONTROL": str(self.control),
        }

    def offer(self, modes: Sequence[Mode], images: Sequence[Image] | None = None, **settings: object) -> None:
        """Offer these modes with these frames (BGR or grey, scaled to fit), and reset other settings.

        By default frames show their number, 0 to 63; see tests.capture.media.
        """
        lines = []
        for number, mode in enumerate(modes):
            file = self.control.with_name(f"{self.control.name}.{number}.{mode.code}")
            file.write_bytes(_numbered(mode) if images is None else _encoded(images, mode))
            numbers = (mode.width, mode.height, mode.rate.numerator, mode.rate.denominator, mode.field)
            lines.append(f"format {mode.code} {' '.join(map(str, numbers))} {file}")
        self._write([*lines, "state run", "generation 0"])
        self.set(**settings)

    def set(self, **settings: object) -> None:
        """Change statements of the control file: state, damage, stamps, poll, ...; see v4l2_emulator.c."""
        kept = [line for line in self.control.read_text().splitlines() if line.split()[0] not in settings]
        self._write([*kept, *(f"{name} {value}" for name, value in settings.items())])

    def stall(self) -> None:
        """Stop delivering, without an error."""
        self.set(state="stall")

    def resume(self) -> None:
        """Deliver again."""
        self.set(state="run")

    def unplug(self) -> None:
        """Vanish; programs that have the device open get errors from now on."""
        lines = self.control.read_text().splitlines()
        generation = next(int(line.split()[1]) for line in lines if line.startswith("generation"))
        self.set(state="gone", generation=generation + 1)

    def plug(self) -> None:
        """Reappear, to be opened again."""
        self.set(state="run")

    def _write(self, lines: Sequence[str]) -> None:
        new = self.control.with_name(self.control.name + ".new")
        new.write_text("\n".join(lines) + "\n")
        new.replace(self.control)


@contextmanager
def emulated_device(
    folder: Path,
    images: Sequence[Image] | None = None,
    *,
    modes: Sequence[Mode] = (Mode("YUYV"), Mode("MJPG")),
    path: str = PATH,
    **settings: object,
) -> Iterator[EmulatedDevice]:
    """A device that delivers; afterwards it is gone. Skips the test where there is no C compiler."""
    library()
    device = EmulatedDevice(folder / "v4l2-control", path)
    device.offer(modes, images, **settings)
    try:
        yield device
    finally:
        device.unplug()


@cache
def library() -> Path:
    """The emulator, compiled once per process."""
    compiler = shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").is_file():
        pytest.skip("the emulated V4L2 device is compiled with gcc and linux/videodev2.h, which are not here")
    built = Path(_folder().name) / "emulator.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", built, _SOURCE, "-ldl"], check=True, timeout=60)
    return built


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="streamseg-v4l2-")


class Child:
    """A process that sees the device and runs functions; it starts once, because imports take time."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _LOOP],
            env=device.env,
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, function: Callable[..., Any], *arguments: object, seconds: float = 120) -> Any:
        """Run a function there, with the device as its first argument; its result must be JSON.

        It sees its module's names, imported again, but no enclosing ones. An exception of ours is returned
        as ``"SourceError: message"``, any other fails the test.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        source = textwrap.dedent(inspect.getsource(function))
        file = inspect.getfile(function)
        task = {"file": file, "source": source, "name": function.__name__, "arguments": arguments}
        limit = threading.Timer(seconds, self._process.kill)
        limit.start()
        try:
            print(json.dumps(task), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline() or '{"failed": "no answer in time"}')
        finally:
            limit.cancel()
        assert "failed" not in answer, answer["failed"]
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate(timeout=30)


_LOOP = """
import functools, json, os, pathlib, runpy, sys, traceback
from streamseg.core.errors import StreamsegError
from tests.capture.v4l2.device import EmulatedDevice
device = EmulatedDevice(pathlib.Path(os.environ["STREAMSEG_FAKE_V4L2_CONTROL"]))
names_of = functools.cache(lambda file: runpy.run_path(file, run_name="scenarios"))
for line in sys.stdin:
    task = json.loads(line)
    try:
        names = dict(names_of(task["file"]))
        exec("from __future__ import annotations\\n" + task["source"], names)
        answer = {"result": names[task["name"]](device, *task["arguments"])}
    except StreamsegError as error:
        answer = {"result": f"{type(error).__name__}: {error}"}
    except BaseException:
        answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


def encode(image: Image, mode: Mode) -> bytes:
    """An image in a mode's pixel format and size."""
    if image.shape[:2] != (mode.height, mode.width):
        image = np.asarray(cv2.resize(image, (mode.width, mode.height)), np.uint8)
    bgr = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8) if image.ndim == 2 else image
    if mode.code == "MJPG":
        return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
    if mode.code in ("BGR3", "RGB3"):
        return bgr.tobytes() if mode.code == "BGR3" else np.ascontiguousarray(bgr[..., ::-1]).tobytes()
    if mode.code == "XR24":
        return np.dstack((bgr, np.full(bgr.shape[:2], 99, np.uint8))).tobytes()
    if mode.code == "GREY":
        return bytes(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)))
    return _encode_yuv(bgr, mode)


def _encode_yuv(bgr: Image, mode: Mode) -> bytes:
    planar = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), np.uint8)
    luma = planar[: mode.height]
    chroma = planar[mode.height :].reshape(2, mode.height // 2, mode.width // 2)
    if mode.code in ("YU12", "YV12", "YM12"):
        return luma.tobytes() + (chroma[::-1] if mode.code == "YV12" else chroma).tobytes()
    pairs = np.moveaxis(chroma[::-1] if mode.code in ("NV21", "YVYU") else chroma, 0, 2)
    if mode.code in ("NV12", "NV21", "NM12"):
        return luma.tobytes() + pairs.tobytes()
    if mode.code == "NV16":
        return luma.tobytes() + pairs.repeat(2, axis=0).tobytes()
    if mode.code == "NV24":
        return luma.tobytes() + pairs.repeat(2, axis=0).repeat(2, axis=1).tobytes()
    packed = np.empty((mode.height, mode.width // 2, 4), np.uint8)
    first = 1 if mode.code == "UYVY" else 0
    packed[..., first::2] = luma.reshape(mode.height, -1, 2)
    packed[..., 1 - first :: 2] = pairs.repeat(2, axis=0)
    return packed.tobytes()


def _encoded(images: Sequence[Image], mode: Mode) -> bytes:
    """Frames as the emulator reads them: each after its length."""
    data = [encode(image, mode) for image in images]
    return b"".join(len(one).to_bytes(4, "little") + one for one in data)


@cache
def _numbered(mode: Mode) -> bytes:
    return _encoded([picture(number, mode.height, mode.width) for number in range(64)], mode)
