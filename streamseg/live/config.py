"""A live set-up as a value, and profiles: such values kept by name in TOML files.

A profile is one flat table whose keys are the fields of :class:`LiveConfig`; a missing key has its default.
Profiles lie in ``profiles/`` in the user's configuration folder, or where ``STREAMSEG_PROFILES`` says.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from streamseg.core.errors import UsageError
from streamseg.core.files import write_whole

FOLDER_VARIABLE = "STREAMSEG_PROFILES"
DISPLAYS = ("window", "web", "none")
TRANSPORTS = ("tcp", "udp")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """What a live run needs to know about its room: the source, the picture in it, the display."""

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
    pace: bool = True
    """Recorded sources at their own speed, as if live."""
    display: str = "window"
    full_screen: bool = False
    opacity: float = 0.25
    """Of the outline's fill, 0..1."""
    full_frame: bool = False
    """Show the machine's whole screen, not only the image in it."""
    host: str = "127.0.0.1"
    port: int = 8765

    def __post_init__(self) -> None:
        for name, allowed in (("display", DISPLAYS), ("transport", TRANSPORTS)):
            if getattr(self, name) not in allowed:
                raise _wrong(name, getattr(self, name), " or ".join(allowed))
        for name, low, high in (("age_budget_ms", 1, 60_000), ("opacity", 0, 1), ("port", 0, 65_535)):
            if not low <= getattr(self, name) <= high:
                raise _wrong(name, getattr(self, name), f"{low} to {high}")
        if self.mm_per_pixel is not None and not 0.001 <= self.mm_per_pixel <= 10:
            raise _wrong("mm_per_pixel", self.mm_per_pixel, "0.001 to 10")


def _wrong(name: str, value: object, allowed: str) -> UsageError:
    return UsageError(f"{name.replace('_', '-')} is {value!r}; give {allowed}")


def profile_path(name: str) -> Path:
    """Where a profile of this name lies. Raises UsageError for a name that is none."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"profile name {name!r} is not plain; use letters, digits, '-', '_' and '.'")
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder) / f"{name}.toml"
    from platformdirs import user_config_path

    return user_config_path("streamseg") / "profiles" / f"{name}.toml"


def load_profile(name: str) -> LiveConfig:
    """Read a profile. Raises UsageError where there is none, or it holds what no set-up has."""
    path = profile_path(name)
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.toml"))) or "none so far"
        raise UsageError(
            f"there is no profile {name!r}; there are: {known}; --save-profile {name} makes it"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read profile {path}: {error}; correct or delete it") from error
    try:
        return from_values(values)
    except UsageError as error:
        raise UsageError(f"profile {path}: {error}") from error


def from_values(values: dict[str, Any]) -> LiveConfig:
    """A set-up from a table. Raises UsageError for an unknown key, or a value of the wrong kind."""
    kinds = {field.name: str(field.type) for field in fields(LiveConfig)}
    for name, value in values.items():
        if name not in kinds:
            raise UsageError(f"{name!r} is no setting; there are {', '.join(kinds)}")
        kind = kinds[name].partition(" ")[0]
        good = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
        }[kind]
        if not good:
            raise UsageError(f"{name} is {value!r}, which is no {kind}")
    return LiveConfig(**values)


def save_profile(name: str, setup: LiveConfig) -> Path:
    """Write a profile, replacing one of the same name. Raises UsageError or SinkError."""
    import tomli_w

    path = profile_path(name)
    default = asdict(LiveConfig())
    kept = {key: value for key, value in asdict(setup).items() if value is not None and value != default[key]}
    write_whole(path, tomli_w.dumps(kept).encode())
    return path
