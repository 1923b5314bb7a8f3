"""The settings of the live command, and profiles: such settings stored under a name in TOML files.

A profile is one flat table whose keys are the fields of :class:`LiveConfig`; a missing key has its default.
Profiles lie in ``profiles/`` in the user's configuration folder, or in the folder ``STREAMSEG_PROFILES``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from streamseg.capture.live import CaptureOptions, is_live, parse_rate, parse_width_height
from streamseg.core.errors import UsageError, one_line
from streamseg.core.files import read_file, user_folder, write_whole
from streamseg.core.numbers import finite_number, whole_number
from streamseg.core.pixel_aspect import parse_aspect
from streamseg.core.plugins import plugins
from streamseg.core.types import Roi
from streamseg.live.loop import LiveOptions
from streamseg.openigtlink.server import parse_place

FOLDER_VARIABLE = "STREAMSEG_PROFILES"
DISPLAYS = ("window", "web", "none")
"""Our own; plug-ins may add others."""
TRANSPORTS = ("tcp", "udp")
MAX_PROFILE_BYTES = 32 << 10
MAX_TEXT = 8192
"""Limit on characters of a setting; the longest is an address."""
MAX_NUMBER = 10**9
"""Limit on numbers; every setting has a narrower one."""
_DOTTED = re.compile(r"(?:\.[\w\"'-]*){64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """The settings of a live run that stay the same from run to run: source, image region, display."""

    source: str | None = None
    roi: str = "auto"
    """``auto``, ``none`` (the whole frame) or ``x,y,w,h``."""
    mm_per_pixel: float | None = None
    """Millimetres per pixel, both ways, as measured on the machine's ruler."""
    age_budget_ms: float = 150.0
    engine: str | None = None
    transport: str = "tcp"
    size: str | None = None
    """``1280x720``: of a frame grabber."""
    rate: str | None = None
    """Frames per second of a frame grabber, such as 30 or 30000/1001."""
    pixel_format: str | None = None
    sar: str | None = None
    """Width to height of a pixel, where the source is wrong: ``16:15``."""
    pace: bool = True
    """Recorded sources at their own speed, as if live."""
    display: str = "window"
    full_screen: bool = False
    opacity: float = 0.25
    """Of the outline's fill, 0..1."""
    vessels: bool = True
    """Draw the outlines of vessels; the displays start so."""
    full_frame: bool = False
    """Show the machine's whole screen instead of the image only."""
    host: str = "127.0.0.1"
    port: int = 8765
    public_url: str | None = None
    """The address at which a proxy serves the web page."""
    igtl: str | None = None
    """``PORT`` or ``HOST:PORT`` on which views are served by OpenIGTLink."""

    @classmethod
    def of(cls, params: Mapping[str, Any], profile: LiveConfig | None = None) -> LiveConfig:
        """A profile's settings (default: the defaults), overridden by the parameters named after fields.

        Parameters of other names, and those that are None, are ignored. Raises UsageError for a bad value.
        """
        given = {field.name: params.get(field.name) for field in fields(cls)}
        values = ({} if profile is None else asdict(profile)) | _without_none(given)
        return from_values(_without_none(values))

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise _wrong("transport", self.transport, " or ".join(TRANSPORTS))
        if self.display not in DISPLAYS and self.display not in (others := plugins("displays")):
            raise _wrong("display", self.display, " or ".join((*DISPLAYS, *others)))
        for name, low, high in (("age_budget_ms", 1, 60_000), ("opacity", 0, 1), ("port", 0, 65_535)):
            if not low <= getattr(self, name) <= high:
                raise _wrong(name, getattr(self, name), f"{low} to {high}")
        if self.mm_per_pixel is not None and not 0.001 <= self.mm_per_pixel <= 10:
            raise _wrong("mm_per_pixel", self.mm_per_pixel, "0.001 to 10")
        if self.roi not in ("auto", "none"):
            Roi.parse(self.roi)
        if self.igtl is not None:
            parse_place(self.igtl)

    @property
    def given_roi(self) -> Roi | None:
        """The rectangle that the user gave, if any."""
        return None if self.roi in ("auto", "none") else Roi.parse(self.roi)

    def capture(self) -> CaptureOptions:
        """How the source is opened. Raises UsageError for a size, a rate or an aspect that is not one."""
        return CaptureOptions(
            transport=self.transport,
            size=parse_width_height(self.size),
            rate=parse_rate(self.rate),
            pixel_format=self.pixel_format,
            sar=parse_aspect(self.sar),
            pace=self.pace,
        )

    def loop(self, *, seconds: float | None = None) -> LiveOptions:
        """How the live loop behaves; ``seconds`` is the duration of the run, None: no limit."""
        return LiveOptions(
            age_budget_s=self.age_budget_ms / 1e3,
            seconds=seconds,
            reconnect=is_live(self.source or ""),
            spacing_mm=None if self.mm_per_pixel is None else (self.mm_per_pixel, self.mm_per_pixel),
        )


def profile_path(name: str) -> Path:
    """The file of the profile of this name. Raises UsageError for an invalid name, and without a home."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"invalid profile name {name!r}; use letters, digits, '-', '_' and '.'")
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder) / f"{name}.toml"
    folder_of_user = user_folder("config")
    if folder_of_user is None:
        raise UsageError(f"this user has no home for profiles; name a folder for them with {FOLDER_VARIABLE}")
    return folder_of_user / "profiles" / f"{name}.toml"


def load_profile(name: str) -> LiveConfig:
    """Read a profile. Raises UsageError for one that does not exist or holds invalid settings."""
    path = profile_path(name)
    try:
        values = _parse_toml(read_file(path, MAX_PROFILE_BYTES).decode())
    except FileNotFoundError as error:
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.toml"))) or "none so far"
        raise UsageError(
            f"there is no profile {name!r}; there are: {known}; --save-profile {name} makes it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UsageError(
            f"cannot read profile {path}: {one_line(error, 200)}; correct or delete it"
        ) from error
    try:
        return from_values(values)
    except UsageError as error:
        raise UsageError(f"profile {path}: {error}") from error


def _parse_toml(text: str) -> dict[str, Any]:
    """A TOML document. Raises ValueError and RecursionError."""
    # tomllib stores every beginning of a dotted key: 100,000 parts fill 40 GB.
    if _DOTTED.search(re.sub(r"[ \t]", "", text)):
        raise ValueError("a key has too many parts")
    return tomllib.loads(text)


def from_values(values: Mapping[str, Any]) -> LiveConfig:
    """Settings from a table. Raises UsageError for an unknown key, or a value of the wrong kind."""
    kinds = {field.name: str(field.type) for field in fields(LiveConfig)}
    for name, value in values.items():
        if name not in kinds:
            raise UsageError(f"{name!r} is not a setting; there are {', '.join(kinds)}")
        kind = kinds[name].partition(" ")[0]
        good = {
            "str": isinstance(value, str) and len(value) <= MAX_TEXT,
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and whole_number(value, -MAX_NUMBER, MAX_NUMBER) is not None,
            "float": isinstance(value, float) or finite_number(value, -MAX_NUMBER, MAX_NUMBER) is not None,
        }[kind]
        if not good:
            raise UsageError(f"{name} is {_shown(value)}, which is not of type {kind}, or too large")
    return LiveConfig(**values)


def save_profile(name: str, config: LiveConfig) -> Path:
    """Write a profile, replacing one of the same name. Raises UsageError or SinkError."""
    import tomli_w

    path = profile_path(name)
    default = asdict(LiveConfig())
    changed = {key: value for key, value in asdict(config).items() if value != default[key]}
    write_whole(path, tomli_w.dumps(_without_none(changed)).encode(), private=True)
    return path


def _shown(value: object) -> str:
    """A value for a message; an integer of thousands of digits has no decimal text."""
    return hex(value)[:20] + "..." if isinstance(value, int) and abs(value) > MAX_NUMBER else repr(value)[:80]


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _wrong(name: str, value: object, allowed: str) -> UsageError:
    return UsageError(f"{name.replace('_', '-')} is {value!r}; give {allowed}")
