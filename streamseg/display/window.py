"""The guidance window: draws what the live loop decided at once, and handles the user's keys.

It never leaves an outline on the screen beyond its expiry: that is checked before an image is put on the
screen, allowing for the time that putting it takes, and again whenever the window is polled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from streamseg.core.types import Image
from streamseg.core.view import Command, View, without_expired_outline
from streamseg.display.desktop import usable_desktop
from streamseg.display.highgui import Window
from streamseg.display.screensaver import ScreenSaverHold
from streamseg.display.snapshots import Snapshots
from streamseg.render.live import LivePainter, LiveStyle
from streamseg.render.live.image import shown_region

KEYS = "o outline   v vessels   + - tint   f freeze   s snapshot   r record   w full screen   q quit"
_REFRESH_NS = 250_000_000
"""An image that stays is drawn again after this time, since its age grows."""
_NOTICE_NS = 5_000_000_000
_MIN_LEAD_NS, _MAX_LEAD_NS = 2_000_000, 200_000_000
"""Bounds of the time expected for putting an image on the screen: as long as it took last time."""
_STEP = 0.1


class WindowDisplay:
    """An OpenCV window that shows views; see :class:`streamseg.core.view.Display`.

    Keys: o outlines on and off; v those of vessels; + and - opacity of the nerve's tint; f or space freeze
    and unfreeze; s snapshot into the folder ``snapshots``; r record; w full screen; q, Escape or closing the
    window quit. Raises UsageError if no window can be opened, SinkError if drawing into it fails.
    """

    name = "window"

    def __init__(
        self,
        title: str,
        *,
        style: LiveStyle | None = None,
        full_screen: bool = False,
        snapshots: Path = Path(),
    ) -> None:
        with usable_desktop():
            self._window = Window(title, full_screen=full_screen)
        self._style = replace(style or LiveStyle(), keys=KEYS)
        self._painter = LivePainter()
        self._snapshots = Snapshots(snapshots)
        self._screen_saver = ScreenSaverHold()
        self._commands: list[Command] = []
        self._quit_reported = False
        self._latest: View | None = None
        self._held: tuple[View, int] | None = None
        self._shown: tuple[View, Image] | None = None
        self._canvas: Image | None = None
        """Where everything is drawn: a new image for each frame would leave holes in the heap."""
        self._drawn_ns = 0
        self._lead_ns = _MIN_LEAD_NS
        self._notice: tuple[str, int] = ("", 0)
        self._actions = self._bind()

    @property
    def style(self) -> LiveStyle:
        """How the image is drawn now, after the user's keys, without the line of keys."""
        return replace(self._style, keys="")

    def show(self, view: View) -> None:
        """Display a view; while the display is frozen, only remember it."""
        self._latest = view
        if self._held is None:
            self._draw()
        self._update()

    def poll(self) -> list[Command]:
        """Handle keys, remove an outline that has expired, and return the user's commands."""
        self._window.pump()
        self._update()
        if self._window.closed and not self._quit_reported:
            self._quit_reported = True
            self._commands.append(Command.QUIT)
        commands, self._commands = self._commands, []
        return commands

    def close(self) -> None:
        """Close the window; a second call does nothing."""
        self._screen_saver.close()
        self._snapshots.close()
        self._window.close()

    def _update(self) -> None:
        """Handle keys, and redraw if what is on the screen is no longer right."""
        changed = False
        for key in self._window.take_keys():
            action = self._actions.get(key)
            if action is not None:
                action()
                changed = True
        if (news := self._snapshots.news()) is not None:
            self._say(news)
            changed = True
        now_ns = time.monotonic_ns()
        if changed or self._has_expired(now_ns) or now_ns - self._drawn_ns >= _REFRESH_NS:
            self._draw()

    def _has_expired(self, now_ns: int) -> bool:
        """The outline on the screen has expired."""
        return (
            self._shown is not None and without_expired_outline(self._shown[0], now_ns) is not self._shown[0]
        )

    def _draw(self) -> None:
        """Put the newest or the frozen view on the screen, as it may be seen at that moment."""
        now_ns = time.monotonic_ns()
        view, style = self._view_and_style(now_ns)
        if view is None or self._window.closed:
            return
        size = self._window.size()
        seen_ns = now_ns + self._lead_ns
        while True:
            image = self._canvas = self._painter.paint(view, size, style, now_ns=seen_ns, canvas=self._canvas)
            start_ns = time.monotonic_ns()
            permitted = without_expired_outline(view, seen_ns)
            # Painting took time: what has expired meanwhile must not reach the screen.
            seen_ns = start_ns + self._lead_ns
            if without_expired_outline(permitted, seen_ns) is permitted:
                break
        self._window.put(image)
        self._drawn_ns = time.monotonic_ns()
        self._lead_ns = min(_MAX_LEAD_NS, max(_MIN_LEAD_NS, self._drawn_ns - start_ns))
        self._shown = permitted, image

    def _view_and_style(self, now_ns: int) -> tuple[View | None, LiveStyle]:
        text, until_ns = self._notice
        style = replace(self._style, notice=text if now_ns < until_ns else "")
        if self._held is None or self._latest is None:
            return self._latest, style
        view, since_ns = self._held
        style = replace(style, held_s=(now_ns - since_ns) // 1_000_000_000, live_now=str(self._latest.state))
        return replace(view, figures=self._latest.figures), style

    def _say(self, text: str) -> None:
        self._notice = text, time.monotonic_ns() + _NOTICE_NS

    def _bind(self) -> dict[int, Callable[[], None]]:
        """Actions by key symbol; the last characters are plus and minus of the number block."""
        actions: dict[str, Callable[[], None]] = {
            "oO": self._switch_overlay,
            "vV": self._switch_vessels,
            "fF ": self._freeze,
            "sS": self._snapshot,
            "rR": lambda: self._commands.append(Command.RECORD),
            "wW": self._window.toggle_full_screen,
            "qQ\x1b": lambda: self._commands.append(Command.QUIT),
            "+=\uffab": lambda: self._tint(_STEP),
            "-_\uffad": lambda: self._tint(-_STEP),
        }
        return {ord(key): action for keys, action in actions.items() for key in keys}

    def _switch_overlay(self) -> None:
        self._style = replace(self._style, overlay=not self._style.overlay)
        self._say(f"outline {'on' if self._style.overlay else 'off'}")

    def _switch_vessels(self) -> None:
        self._style = replace(self._style, vessels=not self._style.vessels)
        self._say(f"vessels {'on' if self._style.vessels else 'off'}")

    def _tint(self, step: float) -> None:
        opacity = round(min(1.0, max(0.0, self._style.opacity + step)), 2)
        self._style = replace(self._style, opacity=opacity)
        self._say(f"tint {100 * opacity:.0f} %")

    def _freeze(self) -> None:
        """Freeze what is on the screen, or continue with the newest view."""
        if self._held is not None:
            self._held = None
        elif self._shown is not None:
            self._held = self._shown[0], time.monotonic_ns()

    def _snapshot(self) -> None:
        """Save what is on the screen, and the image region as captured."""
        if self._shown is None:
            return
        view, annotated = self._shown
        region = shown_region(view, self._style)
        if view.frame is None or region is None:
            self._say("no snapshot: there is no image yet")
            return
        self._snapshots.take(view.frame.crop(region), annotated.copy())
