"""FAST, a framework for ultrasound in C++, as a peer: the same FP32 weights on its own OpenVINO.

It runs in the Python that has pyfast, since its libraries do not fit ours, and with an X server of its own.
Its reader of videos plays them at their own pace and loses frames, so both read the clip's region as grey
PNG files, and neither draws.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.errors import EngineError
from streamseg.core.hardware import versions_of
from streamseg.core.spec import InputSpec
from streamseg.core.types import Grey

PYTHON = "STREAMSEG_FAST"
"""Environment variable: the Python that has pyfast, if that is not this one."""
CLOSE_S = 5.0


def command_of_fast() -> list[str]:
    """What starts FAST's Python with an X server. Raises EngineError, saying what is missing."""
    python = os.environ.get(PYTHON)
    if python is None and versions_of(["pyfast"]):
        python = sys.executable
    if python is None:
        raise EngineError(
            f"FAST is not installed; install pyfast==4.18 into an environment of its own and set {PYTHON} to "
            "that environment's Python"
        )
    if shutil.which(python) is None:
        raise EngineError(f"{PYTHON} is {python}, which is no program; set it to the Python that has pyfast")
    if shutil.which("xvfb-run") is None:
        raise EngineError("FAST needs an X server; install xvfb-run (Debian: xvfb)")
    return ["xvfb-run", "-a", python]


def write_frames(images: Sequence[Grey], folder: Path) -> str:
    """Write images (grey, uint8) as PNG files; their names as FAST takes them, ``folder/frame_#.png``."""
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"frame_{number}.png"), image)
    return str(folder / "frame_#.png")


class Fast:
    """FAST with a net, in a process of its own until :meth:`close`."""

    def __init__(self, model: Path, spec: InputSpec, folder: Path) -> None:
        """Load an ONNX file. ``folder`` holds what FAST writes. Raises EngineError if it cannot."""
        self._spec = spec
        self._log = folder / "fast.txt"
        numbers = (255 * spec.mean, 255 * spec.std, spec.threshold)  # grey levels as they are read
        worker = Path(__file__).with_name("fast_worker.py")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command_of_fast(), str(worker), str(model), *map(str, numbers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": ""},
                start_new_session=True,
            )
        self.processor_s = 0.0
        """Processor time that it took so far."""
        try:
            self.version = f"pyfast {self._answer()['version']}"
        except BaseException:
            self.close()
            raise

    def run(self, frames: str, masks: Path | None = None) -> int:
        """Segment files ``folder/frame_#.png``; the number of frames that came out. ``masks`` as in
        :meth:`masks`. Raises EngineError if it ends instead."""
        question = json.dumps({"frames": frames, "masks": None if masks is None else str(masks)})
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{question}\n".encode())
            self._process.stdin.flush()
        found = self._answer()
        self.processor_s = float(found["processor_s"])
        return int(found["frames"])

    def masks(self, images: Sequence[Grey], folder: Path) -> npt.NDArray[np.bool_]:
        """Masks (images, height, width) at the net's resolution. Raises EngineError."""
        path = folder / "masks"
        count = self.run(write_frames(images, folder), path)
        found = np.fromfile(path, np.uint8)
        if count != len(images) or found.size != count * self._spec.height * self._spec.width:
            raise EngineError(f"it gave {count} masks of {len(images)} images, {found.size} pixels in all")
        return found.reshape(count, self._spec.height, self._spec.width) > 0

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = [text.strip() for text in self._log.read_text(errors="replace").splitlines()]
            raise EngineError(f"FAST ended: {next(filter(None, reversed(said)), 'it gave no reason')[:300]}")
        found: dict[str, Any] = json.loads(line)
        return found
