"""How a benchmark leaves where something is still computing: at once."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def leaves_at_once() -> Iterator[None]:
    """Where the block leaves threads behind that still work when the program ends, it ends without them.

    Nothing can end a thread that hangs or computes in a library, as after Ctrl-C while a net is compiled. A
    library that comes back from computing while the interpreter goes away finds none, and aborts the process:
    exit code 134 instead of 130, whatever was written before.
    """
    before = set(threading.enumerate())
    code = 0
    try:
        yield
    except KeyboardInterrupt:
        code = 130
        raise
    except BaseException as error:
        code = getattr(error, "exit_code", 1)
        raise
    finally:
        if left := set(threading.enumerate()) - before:
            # What is registered last is called first: before libraries that would wait for their threads.
            atexit.register(_leave, code, left)


def _leave(code: int, left: Collection[threading.Thread]) -> None:
    """End the process with this exit code, unless all of these threads are over by now."""
    if any(thread.is_alive() for thread in left):
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # none, a reader that left, closed
                stream.flush()
        os._exit(code)
