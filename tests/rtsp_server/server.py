"""Starts the RTSP server of :mod:`gst_server` as a process, and does to it what goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.rtsp_server.barcode import draw

SCRIPT = Path(__file__).with_name("gst_server.py")
PYTHON = "/usr/bin/python3"
START_SECONDS = 60.0


@cache
def why_not() -> str:
    """Why no server can be started here, for a skip; empty where one can."""
    if shutil.which(PYTHON) is None:
        return "no system python3 with GStreamer's bindings"
    needed = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')"
    elements = "x264enc x265enc jpegenc rtph264pay rtph265pay rtpjpegpay videotestsrc appsrc"
    code = (
        f"{needed}; from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
        f"assert all(Gst.ElementFactory.find(name) for name in {elements!r}.split())"
    )
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, timeout=START_SECONDS, check=False)
    return "" if found.returncode == 0 else "gst-rtsp-server with its plugins is not installed"


class Server:
    """One server process. ``url`` stays the same over :meth:`restart`."""

    def __init__(self, port: int = 0, **options: Any) -> None:
        """Start, with gst_server.py's options: width, height, fps, codec, gop, drop, stdin, user, ..."""
        self.options: dict[str, Any] = {"width": 320, "height": 240} | options
        self._port = port
        self._stopped = False
        self._start()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"rtsp://127.0.0.1:{self._port}/live"

    def _start(self) -> None:
        flags = ["--port", str(self._port)]
        for name, value in self.options.items():
            flags += [f"--{name}"] if value is True else [f"--{name}", str(value)] if value else []
        self._process = subprocess.Popen(
            [PYTHON, str(SCRIPT), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # the test's own time-out bounds this
        if not line:
            self.kill()
            raise RuntimeError(f"the RTSP server did not start with {flags}")
        self._port = int(line)

    def feed(self, image: npt.NDArray[np.uint8]) -> None:
        """Send one grey picture of the server's size; only with ``stdin=True``. OSError once killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(image.tobytes())
        self._process.stdin.flush()

    def kill(self) -> None:
        """End the process at once, as a power cut would; the port refuses from now on."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not written yet is lost with the process
                    pipe.close()

    def stop(self) -> None:
        """Stall: the connection stays open, and nothing comes."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Go on after :meth:`stop`."""
        os.kill(self._process.pid, signal.SIGCONT)

    def restart(self, **options: Any) -> None:
        """Kill, and start on the same port with other options (width, height, codec, fps, ...)."""
        self.kill()
        self.options |= options
        self._start()

    def close(self) -> None:
        self.kill()


@contextmanager
def serve(**options: Any) -> Iterator[Server]:
    """A server for the ``with`` block; see :class:`Server`."""
    server = Server(**options)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def feeding(server: Server, picture: Callable[[int], npt.NDArray[np.uint8]] | None = None) -> Iterator[None]:
    """Feed a server that was started with ``stdin=True``, from a thread, at its rate.

    ``picture(k)`` makes the k-th picture right before it is sent; by default a bar code of k.
    """
    options = server.options
    height, width, fps = options["height"], options["width"], options.get("fps", 30)
    make = picture or (lambda number: draw(number, height, width))
    stop = threading.Event()

    def run() -> None:
        start = time.monotonic()
        number = 0
        while not stop.wait(max(0.0, start + number / fps - time.monotonic())):
            try:
                server.feed(make(number))
            except (OSError, ValueError):  # killed, or being restarted
                stop.wait(0.05)
            number += 1

    thread = threading.Thread(target=run, name="test-feeder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
