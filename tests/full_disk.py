"""A full disk, imitated by the system's limit on file sizes."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def largest_file(size: int | None) -> Callable[[], None]:
    """A ``preexec_fn`` after which the child's writes beyond ``size`` bytes fail; None sets no limit."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Make this process's writes beyond ``size`` bytes of a file fail within the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
