"""How many threads inference on the processor takes: said by the caller, or by the environment."""

from __future__ import annotations

import os

from streamseg.core.errors import UsageError

THREADS_VARIABLE = "STREAMSEG_THREADS"
"""Environment variable with the number of threads used for inference; unset is the library's choice."""


def thread_count(threads: int | None) -> int | None:
    """The number of threads, or None for the library's choice. ``threads`` None follows the environment.

    Raises UsageError for a number that makes no sense.
    """
    text = os.environ.get(THREADS_VARIABLE, "")
    if threads is None and text:
        try:
            threads = int(text)
        except ValueError:
            raise UsageError(
                f"{THREADS_VARIABLE} is a number of threads, received {text!r}; unset it"
            ) from None
    if threads is not None and threads < 1:
        raise UsageError(f"inference needs at least 1 thread, received {threads}")
    return threads
