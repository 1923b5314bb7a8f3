"""Keeps the screen saver off while the display is in use, if the desktop allows it; never fails."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time

_EVERY_S = 45.0
"""Interval of the resets: screen savers start after a minute at the earliest."""
_LIMIT_S = 5.0
_POLL_S = 0.05
_CLOSE_S = 1.0


class ScreenSaverHold:
    """Keeps the screen saver off from construction to :meth:`close`, or until this process ends in any way.

    Uses systemd's inhibitor and resets X's own timers, since no desktop honours both.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._inhibitor = _inhibitor()
        self._thread: threading.Thread | None = None
        if shutil.which("xdg-screensaver"):
            self._thread = threading.Thread(target=self._reset, name="streamseg-screensaver", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Allow the screen saver again; a second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        inhibitor, self._inhibitor = self._inhibitor, None
        if inhibitor is None:
            return
        if inhibitor.stdin is not None:
            with contextlib.suppress(OSError):
                inhibitor.stdin.close()
        try:
            inhibitor.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            inhibitor.kill()
            inhibitor.wait(_CLOSE_S)

    def _reset(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self._run_reset()
            self._stop.wait(_EVERY_S)

    def _run_reset(self) -> None:
        quiet = subprocess.DEVNULL
        tool = subprocess.Popen(["xdg-screensaver", "reset"], stdin=quiet, stdout=quiet, stderr=quiet)
        ends = time.monotonic() + _LIMIT_S
        while tool.poll() is None and time.monotonic() < ends:
            if self._stop.wait(_POLL_S):
                break
        # Harmless if it has ended.
        tool.kill()
        tool.wait()


def _inhibitor() -> subprocess.Popen[bytes] | None:
    """A process that inhibits idling until its input ends: when it is closed, or this process has died."""
    if shutil.which("systemd-inhibit") is None or shutil.which("cat") is None:
        return None
    try:
        return subprocess.Popen(
            ["systemd-inhibit", "--what=idle", "--who=streamseg", "--why=live ultrasound image", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
