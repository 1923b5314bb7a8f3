"""A desktop of our own (Xvfb) for tests of windows: its screen, and a user's hand on its keys."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import cv2
import numpy as np
import pytest

T = TypeVar("T")
WIDTH, HEIGHT = 1280, 720
PATIENCE_S = 60.0

needs_desktop = pytest.mark.skipif(
    not all(map(shutil.which, ("Xvfb", "xdotool", "import"))),
    reason="needs Xvfb, xdotool and ImageMagick (apt-get install xvfb xdotool imagemagick)",
)


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

    def window(self, title: str = "streamseg test") -> str:
        found = wait_for(lambda: self._run("xdotool", "search", "--name", f"^{title}$").stdout.split())
        return found[0].decode()

    def press(self, *keys: str) -> None:
        window = self.window()
        for key in keys:
            self._run("xdotool", "key", "--window", window, key)

    def resize(self, width: int, height: int) -> None:
        self._run("xdotool", "windowsize", self.window(), str(width), str(height))

    def ask_to_close(self) -> None:
        """As the cross in a window's corner does."""
        self._run("xdotool", "windowquit", self.window())


@contextmanager
def open_desktop(width: int = WIDTH, height: int = HEIGHT) -> Iterator[Desktop]:
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"],
        pass_fds=(writing,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        yield Desktop(number, server)
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
