"""OpenCV's window; the only module that uses it. Call everything from the thread that opened it."""

from __future__ import annotations

import contextlib
import locale

import cv2

from streamseg.core.errors import SinkError
from streamseg.core.types import Image

_WINDOWED = (1280, 720)
_MAX_PIXELS = 1920 * 1200
"""Larger screens get this number of pixels, enlarged by Qt: drawing more costs time and shows no more."""
_FLAGS = cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL
_MAX_KEYS = 16


class Window:
    """A window on the desktop. Construct it inside :func:`usable_desktop`."""

    def __init__(self, title: str, *, full_screen: bool) -> None:
        self._title = title
        self._closed = False
        self._keys: list[int] = []
        try:
            cv2.namedWindow(title, _FLAGS)
            cv2.resizeWindow(title, *_WINDOWED)
        except cv2.error as error:
            raise SinkError(f"cannot open a window: {error.err or error}; use --display web") from error
        # Qt sets the user's locale for the whole process: a decimal comma would break other parsers.
        locale.setlocale(locale.LC_NUMERIC, "C")
        if full_screen:
            self.toggle_full_screen()

    @property
    def closed(self) -> bool:
        """True once the window was closed, by the user or by :meth:`close`; it stays closed."""
        if not self._closed:
            try:
                self._closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
            except cv2.error:
                self._closed = True
        return self._closed

    def size(self) -> tuple[int, int]:
        """Width and height in pixels of an image for this window."""
        try:
            _, _, width, height = cv2.getWindowImageRect(self._title)
        except cv2.error:
            return _WINDOWED
        if width < 1 or height < 1:
            return _WINDOWED
        shrink = min(1.0, (_MAX_PIXELS / (width * height)) ** 0.5)
        return max(1, round(width * shrink)), max(1, round(height * shrink))

    def put(self, image: Image) -> None:
        """Show an image; it is on the screen when this returns. Does nothing after the window was closed."""
        if self.closed:
            return
        try:
            cv2.imshow(self._title, image)
            self.pump()
        except cv2.error as error:
            raise SinkError(
                f"cannot draw into the window: {error.err or error}; try --display web"
            ) from error

    def pump(self) -> None:
        """Process the window's events: paint, collect keys. Takes a millisecond or two."""
        for _ in range(_MAX_KEYS):
            key = cv2.pollKey()
            if key < 0:
                return
            self._keys.append(key)

    def take_keys(self) -> list[int]:
        """Keys pressed since the last call, as X key symbols; letters are lower case."""
        keys, self._keys = self._keys, []
        return keys

    def toggle_full_screen(self) -> None:
        with contextlib.suppress(cv2.error):
            full = cv2.getWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN) == cv2.WINDOW_FULLSCREEN
            wanted = cv2.WINDOW_NORMAL if full else cv2.WINDOW_FULLSCREEN
            cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, wanted)

    def close(self) -> None:
        if not self.closed:
            self._closed = True
            with contextlib.suppress(cv2.error):
                cv2.destroyWindow(self._title)
                cv2.pollKey()
