"""What all benchmarks share: options, scratch folder, clip, limits, Ctrl-C, and where their rows come
from."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from streamseg.backends.shared import CLOSE_S
from streamseg.benchmark.clip import Clip, open_clip
from streamseg.benchmark.limits import MachineLimits
from streamseg.benchmark.provenance import OtherLoad, provenance
from streamseg.benchmark.rotation import STOPPED
from streamseg.benchmark.rows.run import LimitInfo, RunInfo
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.benchmark.timing import CallTimeout
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, StallError
from streamseg.core.types import Backend, Say

PACKAGES = (
    "torch", "openvino", "nncf", "onnxruntime", "tensorrt", "torch-tensorrt", "opencv-python", "av", "numpy",
)  # fmt: skip


LIMITS_SHARE = 0.2
"""Of a run's time, the share in which the machine's limits may begin to be measured beforehand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What every benchmark can be asked for."""

    source: str | None = None
    """A recorded clip; None is a phantom clip."""
    rounds: int | None = None
    """None is the benchmark's own number."""
    quick: bool = False
    threads: int = 1
    """Of a net."""
    limit: TimeLimit = field(default_factory=TimeLimit)
    """When it is to end."""
    arguments: tuple[str, ...] = ()
    """The command line after ``streamseg``, for the record."""


class BenchRun:
    """The run of a benchmark, as a ``with`` block; afterwards :meth:`info` describes it for its rows."""

    def __init__(self, options: BenchOptions, say: Say, packages: Sequence[str] = PACKAGES) -> None:
        """``packages``: those whose versions count."""
        self.options, self.say = options, say
        self.absent: dict[str, str] = {}
        """Why something that was asked for has no row, by its key."""
        self.limits: dict[str, LimitInfo] = {}
        """The machine's limits by kind."""
        self.limit = options.limit
        """When it is to end."""
        self.stopped = False
        """Ctrl-C ended it."""
        self.folder = Path()
        """Scratch folder, removed at the end."""
        self._packages = packages
        self._opened = ExitStack()
        self._engines: list[Backend] = []
        self._others = OtherLoad()
        self._clip: Clip | None = None
        self._seconds = 0.0

    def keep(self, engine: Backend) -> Backend:
        """The engine, which is closed at the end unless it hangs: what was measured must not wait for it."""
        self._opened.callback(_close_unless_it_hangs, engine)
        self._engines.append(engine)
        return engine

    def at_end(self, call: Callable[[], None]) -> None:
        """Call this at the end."""
        self._opened.callback(call)

    def open_clip(self, frames: int = 64) -> Clip:
        """The clip of the options, its first frames in memory. Raises what :func:`open_clip` does."""
        self._clip = open_clip(self.options.source, self.folder, frames=frames)
        return self._clip

    def measure(self, work: Callable[[], None], finished: Callable[[], bool]) -> None:
        """Do the work, and measure the machine's limits before and after it; those of the GPU too, if an
        engine that is kept runs there.

        After the work they are left out if there is no time. Ctrl-C ends the work if anything was
        ``finished`` by then; otherwise it passes through.
        """
        gpu = any(EngineInfo.of(engine).on_gpu for engine in self._engines)
        with MachineLimits(self.options.threads, self.say, gpu=gpu) as machine:

            def around() -> None:
                began_s = self.limit.now_s()
                machine.measure(self.limit.part(LIMITS_SHARE))
                took_s = self.limit.now_s() - began_s
                work()
                if self.limit.fits(took_s):
                    machine.measure()

            self.until_ctrl_c(around, finished)
        self.limits = machine.found()

    def until_ctrl_c(self, work: Callable[[], None], finished: Callable[[], bool]) -> None:
        """Do the work. Ctrl-C, and the time limit, end it if anything was ``finished`` by then.

        Otherwise Ctrl-C passes through, and the limit raises EngineError.
        """
        try:
            with self.limit.enforced():
                work()
        except KeyboardInterrupt:
            late = self.limit.interrupted
            if not finished():
                if late:
                    raise EngineError(
                        f"nothing was finished within {self.limit.seconds:.0f} s; give more by --within"
                    ) from None
                raise
            self.stopped = not late

    @property
    def why_unfinished(self) -> str:
        """Why something is absent that was not reached."""
        return TOO_LATE if self.limit.interrupted else STOPPED

    def info(self, regime: Mapping[str, Any]) -> RunInfo:
        """The description of the run, after its end.

        ``regime`` says in numbers how it measured: rounds, block_seconds, warmup_calls, paces_fps and so on.
        """
        options, total = self.options, self.limit.seconds
        return RunInfo(
            command=shlex.join(["streamseg", *map(_without_folders, options.arguments)]),
            quick=options.quick,
            date=self._origin["date"],
            started=self._started,
            machine=self._origin["machine"],
            threads=options.threads,
            source=None if self._clip is None else self._clip.to_json(),
            regime=dict(regime) | ({} if total is None else {"total_seconds": total}),
            limits=self.limits,
            others_share=self._others.share,
            absent=self.absent,
            seconds=round(self._seconds, 1),
            stopped=self.stopped,
        )

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._origin = provenance(packages=self._packages)
        scratch = TemporaryDirectory(prefix="streamseg-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._opened.enter_context(scratch))
        self._opened.enter_context(self._others)
        return self

    def __exit__(self, *exc: object) -> None:
        self._seconds = time.monotonic() - self._began
        self._opened.close()


def _close_unless_it_hangs(engine: Backend) -> None:
    with CallTimeout(CLOSE_S) as timeout, suppress(StallError):
        timeout.run(engine.close)


def _without_folders(argument: str) -> str:
    """An argument as it may be published: folders may name a person."""
    path = Path(argument)
    return path.name if len(path.parts) > 1 and (path.exists() or path.parent.is_dir()) else argument
