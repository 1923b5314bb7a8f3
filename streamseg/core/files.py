"""Writes files atomically, so that no reader and no resumed run meets half a file; reads strict JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from streamseg.core.errors import DataError, SinkError

MAX_DOCUMENT_BYTES = 64 << 20
"""No document of ours (JSON, TOML) is larger."""


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8. Raises SinkError."""
    write_whole(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, one key per line. Raises SinkError, and ValueError for NaN."""
    lines = (f" {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None if there is no file. Raises DataError for a damaged one."""
    try:
        value = parse_json(read_file(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; remove it, so that it is made again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; remove it, so that it is made again")
    return value


def read_file(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The content of a regular file.

    Raises OSError, with the reason as its ``strerror``, also for a FIFO or device, which could block for
    ever, and for a file above ``max_bytes``: a sparse one has any size.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        too_large = status.st_size > max_bytes  # of a sparse file not a byte is read
        data = b"" if too_large else file.read(max_bytes + 1)
    if too_large or len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes >> 20} MiB", str(path))
    return data


def parse_json(text: str | bytes, *, strict: bool = True) -> Any:
    """Parse a JSON document from an untrusted origin.

    Raises ValueError for what is not strict JSON: NaN, Infinity, numbers too large for a float or of
    thousands of digits, and nesting deeper than Python's parser can follow. Without ``strict`` NaN and
    infinite numbers pass, as Python itself writes them.
    """
    try:
        if not strict:
            return json.loads(text)
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def finite(value: Any) -> Any:
    """The value as strict JSON: numbers that are not finite become None, keys text, and tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a temporary file beside the target, then rename it; makes the folder. Raises SinkError.

    The file has the permissions that the user's umask gives, or those of the file that it replaces; with
    ``private`` only its owner can read it.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
        partial = temporary
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if path.is_file() and not private:
            partial.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
        partial.replace(path)
    except OSError as error:
        raise SinkError(
            f"cannot write {path}: {error.strerror or error}; choose a folder with space"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts ``f2.png`` before ``f10.png``."""
    parts = re.split(r"(\d+)", path.name.casefold())
    # Every part becomes a triple of one type, so that numbers and text never meet in a comparison.
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def user_folder(kind: Literal["cache", "config"]) -> Path | None:
    """The user's folder for our cache or configuration; None if this user has no home.

    A container that runs as a bare number has neither HOME nor an entry in the table of users.
    """
    import platformdirs

    try:
        found = {"cache": platformdirs.user_cache_path, "config": platformdirs.user_config_path}[kind](
            "streamseg"
        )
    except (RuntimeError, KeyError, OSError):
        return None
    return found if found.is_absolute() else None


def private_folder() -> Path:
    """A folder for temporary files that nobody else can have put anything into. Raises OSError.

    It is the same one in every process of this user, unless somebody else has taken its name.
    """
    uid = os.getuid() if hasattr(os, "getuid") else None
    path = Path(tempfile.gettempdir()) / f"streamseg-{'user' if uid is None else uid}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode) and (
        uid is None or (status.st_uid == uid and not status.st_mode & 0o022)
    ):
        return path
    return Path(tempfile.mkdtemp(prefix="streamseg-"))


def can_write(folder: Path) -> bool:
    """Whether files can be written into a folder, which is made if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
