"""A full disk, imitated by the system's limit on file sizes."""

import resource
import signal
from collections.abc import Callable


def largest_file(size: int | None) -> Callable[[], None]:
    """A ``preexec_fn`` after which the child's writes beyond ``size`` bytes fail; None sets no limit."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit
