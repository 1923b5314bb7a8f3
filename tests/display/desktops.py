"""A desktop of our own (Xvfb) for tests of windows: its screen, and a user's hand on its keys."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import cv2
import numpy as np
import pytest

T = TypeVar("T")
WIDTH, HEIGHT = 1280, 720
PATIENCE_S = 60.0

needs_desktop = pytest.mark.skipif(
    not all(map(shutil.which, ("Xvfb", "openbox", "xdotool", "import"))),
    reason="needs an X server, a window manager and hands (apt-get install xvfb openbox xdotool imagemagick)",
)


_ASK_TO_CLOSE = """
import ctypes, struct, sys
x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = ctypes.c_ulong
display, window = ctypes.c_void_p(x.XOpenDisplay(None)), int(sys.argv[1])
atoms = [x.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")]
message = struct.pack("@iLiPLLi5l", 33, 0, 1, 0, window, atoms[0], 32, atoms[1], 0, 0, 0, 0)
event = ctypes.create_string_buffer(message, 192)
assert x.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), event)
x.XSync(display, 0)
"""


class Desktop:
    """An X server; ``environment`` makes a process use it."""

    def __init__(self, number: str, server: "subprocess.Popen[bytes]") -> None:
        self.number, self.server = number, server
        self.environment = {**os.environ, "DISPLAY": f":{number}"}
        self.environment.pop("WAYLAND_DISPLAY", None)

    def _run(self, *command: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(command, env=self.environment, capture_output=True, timeout=60, check=False)

    def screen(self) -> np.ndarray:
        """What is on the screen, BGR."""
        png = self._run("import", "-window", "root", "png:-").stdout
        picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture

    def window_picture(self) -> np.ndarray:
        """What is in the window, BGR, wherever it stands."""
        png = self._run("import", "-window", self.window(), "png:-").stdout
        picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture

    @contextmanager
    def managed(self) -> Iterator[None]:
        """With a window manager, which full screen needs."""
        manager = subprocess.Popen(
            ["openbox"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: self._run("xdotool", "get_num_desktops").returncode == 0)
            yield
        finally:
            manager.terminate()
            manager.wait(30)

    def window(self, title: str = "streamseg test") -> str:
        def search() -> list[bytes]:
            return self._run("xdotool", "search", "--name", f"^{title}$").stdout.split()

        return wait_for(search)[0].decode()

    def press(self, *keys: str) -> None:
        window = self.window()
        for key in keys:
            self._run("xdotool", "key", "--window", window, key)

    def resize(self, width: int, height: int) -> None:
        self._run("xdotool", "windowsize", self.window(), str(width), str(height))

    def ask_to_close(self) -> None:
        """As the cross in a window's corner does."""
        assert self._run(sys.executable, "-c", _ASK_TO_CLOSE, self.window()).returncode == 0

    def has_window(self) -> bool:
        return bool(self._run("xdotool", "search", "--name", "^streamseg test$").stdout)


@contextmanager
def open_desktop(
    width: int = WIDTH, height: int = HEIGHT, *options: str, lasting: bool = True, managed: bool = True
) -> Iterator[Desktop]:
    """An X server, ``managed`` by a window manager.

    ``lasting``: it does not start anew, refusing clients for a moment, when the last one has left.
    """
    reading, writing = os.pipe()
    options = (*options, "-noreset") if lasting else options
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(writing),
            "-screen",
            "0",
            f"{width}x{height}x24",
            "-nolisten",
            "tcp",
            *options,
        ],
        pass_fds=(writing,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        desktop = Desktop(number, server)
        with desktop.managed() if managed else nullcontext():
            yield desktop
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(found: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The first true answer; the last one when patience is at its end."""
    ends = time.monotonic() + patience_s
    while not (answer := found()) and time.monotonic() < ends:
        time.sleep(0.05)
    assert answer
    return answer
