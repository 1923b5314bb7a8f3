"""A private desktop (Xvfb) for tests of windows: reads its screen, presses keys."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

import cv2
import numpy as np
import pytest

from tests.waiting import wait_for

WIDTH, HEIGHT = 1280, 720

needs_desktop = pytest.mark.skipif(
    not all(map(shutil.which, ("Xvfb", "openbox", "xdotool", "import"))),
    reason="needs Xvfb, openbox, xdotool and import (apt-get install xvfb openbox xdotool imagemagick)",
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


class _XImage(ctypes.Structure):
    """The head of Xlib's XImage."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("width", "height", "xoffset", "format")),
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("byte_order", "bitmap_unit", "bitmap_bit_order", "bitmap_pad")),
        *((name, ctypes.c_int) for name in ("depth", "bytes_per_line", "bits_per_pixel")),
    )


class Screen:
    """Reads the screen of an X server over one connection, ten times faster than a process each time."""

    def __init__(self, number: str) -> None:
        x11 = self._x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XDefaultRootWindow.restype = ctypes.c_ulong
        x11.XGetImage.restype = ctypes.POINTER(_XImage)
        self._display = ctypes.c_void_p(x11.XOpenDisplay(f":{number}".encode()))
        assert self._display
        self._root = ctypes.c_ulong(x11.XDefaultRootWindow(self._display))

    def read(self, width: int, height: int) -> np.ndarray:
        every_plane, z_pixmap = ctypes.c_ulong(0xFFFFFFFF), 2
        found = self._x11.XGetImage(self._display, self._root, 0, 0, width, height, every_plane, z_pixmap)
        image = found.contents
        assert (image.bits_per_pixel, image.byte_order) == (32, 0)
        pixels = ctypes.string_at(image.data, image.bytes_per_line * height)
        self._x11.XDestroyImage(found)
        return np.frombuffer(pixels, np.uint8).reshape(height, -1, 4)[:, :width, :3].copy()

    def close(self) -> None:
        self._x11.XCloseDisplay(self._display)


class Desktop:
    """An X server; ``environment`` makes a process use it."""

    def __init__(self, number: str, server: "subprocess.Popen[bytes]", size: tuple[int, int]) -> None:
        self.number, self.server = number, server
        self.environment = {**os.environ, "DISPLAY": f":{number}"}
        self.environment.pop("WAYLAND_DISPLAY", None)
        self._size = size
        self._screen: Screen | None = None

    def _run(self, *command: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(command, env=self.environment, capture_output=True, timeout=60, check=False)

    def screen(self) -> np.ndarray:
        """What is on the screen, BGR."""
        if self._screen is None:
            self._screen = Screen(self.number)
        return self._screen.read(*self._size)

    def close(self) -> None:
        """End our own connection, which must not outlive the server."""
        if self._screen is not None:
            self._screen.close()

    def window_image(self) -> np.ndarray:
        """What is in the window, BGR, wherever it is."""
        png = self._run("import", "-window", self.window(), "png:-").stdout
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image

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

    ``lasting``: it does not restart, refusing clients for a moment, when the last one has left.
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
        desktop = Desktop(number, server, (width, height))
        with closing(desktop), desktop.managed() if managed else nullcontext():
            yield desktop
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
