"""The exceptions of streamseg.

::

    StreamsegError            anything we raise on purpose; ``exit_code`` 1
    |-- UsageError            the call itself is wrong (option, ROI, overwriting); ``exit_code`` 2
    |   `-- MissingExtra      an optional dependency is not installed; names the extra
    |-- SourceError           a source cannot be opened or read
    |   `-- SourceCut         it ended in the middle; every frame before the cut was delivered
    |-- DataError             a data set is inconsistent (mask without image, wrong size, ...)
    |-- EngineError           an engine is damaged, does not fit, or fails
    |   |-- EngineMisfit      it was built for another machine or by other versions; rebuilding helps
    |   |-- GateError         its masks differ from those of its weights; it stays out of the store
    |   `-- StallError        it gave no answer in time, and was abandoned
    `-- SinkError             an output cannot be written (disk full, no permission, ...)

Every message is one line: what was wrong, what was received, what to do. Driver exceptions are
translated where they arise and stored as ``__cause__``; no caller needs to know PyAV's or OpenVINO's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamseg.core.printable import printable


class StreamsegError(Exception):
    """Base of all errors raised on purpose. ``str(error)`` is one line for the user."""

    exit_code = 1


class UsageError(StreamsegError):
    """The call itself is wrong: an option, a region outside the frame, an output that exists."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'streamseg[{extra}]'"
        )


class SourceError(StreamsegError):
    """A source cannot be opened or read."""


class SourceCut(SourceError):
    """A source ended in the middle; every frame before the cut was delivered first."""


class DataError(StreamsegError):
    """A data set is inconsistent or empty."""


class EngineError(StreamsegError):
    """An engine is damaged, does not fit this program or machine, or failed."""


class EngineMisfit(EngineError):
    """An engine was built for another machine or by other versions, and was not loaded.

    ``command`` builds it for this machine.
    """

    def __init__(self, name: str, reasons: Sequence[str], command: str) -> None:
        self.reasons = tuple(reasons)
        self.command = command
        super().__init__(
            f"engine {name} does not fit this machine ({'; '.join(reasons)}); build it with: {command}"
        )


class StallError(EngineError):
    """A measured call gave no answer in time; it may still hang in a thread of its own."""


class GateError(EngineError):
    """An engine failed the accuracy gate: its masks differ from those of its weights in FP32."""


class SinkError(StreamsegError):
    """An output cannot be written."""


def one_line(error: BaseException | str, limit: int | None = None) -> str:
    """The message of an exception, or any text, printable on one line of at most ``limit`` characters.

    Of an OSError only the reason is taken, without the path that Python and FFmpeg append. An exception
    without a message gives the name of its class.
    """
    if isinstance(error, str):
        text = error
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(str(text).split()))[:limit]


def first_line(message: object) -> str:
    """The first line of an exception's or other message, shortened: some libraries add pages of advice."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return printable(lines[0])[:200] if lines else type(message).__name__


_CALL = re.compile(
    r"unexpected keyword argument|missing \d+ required|positional argument|takes (no|at most|exactly|\d+) "
)


def is_programming_error(error: BaseException, *libraries: str) -> bool:
    """Whether an exception shows a fault of the program, not of the file that it was reading.

    A library of the wrong version refuses a call with a TypeError, which must not pass for damage. Some of
    the ``libraries`` (top-level names), all in Python, raise such errors for damaged files too: then the
    place where it was raised decides.
    """
    if not isinstance(error, TypeError | NameError | ImportError | AttributeError):
        return False
    if isinstance(error, TypeError) and _CALL.search(str(error)):
        return True
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = "" if place is None else str(place.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] not in libraries
