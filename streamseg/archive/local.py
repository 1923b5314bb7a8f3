"""Workers on this machine: processes, each with an engine of its own and its share of the cores."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from streamseg.archive.clips import Clip
from streamseg.archive.scheduler import Event, Kind
from streamseg.archive.segment import Job, segment_clip
from streamseg.core.errors import EngineError, StreamsegError, one_line
from streamseg.core.hardware import usable_cores

CORES_PER_WORKER = 2
"""One decodes and writes while the other infers."""
_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when the one that started it has ended."""


def share_cores(workers: int | None) -> list[int]:
    """Threads of each worker's engine: together at least all cores that this process may use.

    Without a number of workers, every two cores have one, and one more works where others leave a core idle:
    while they open a clip, look for its image or publish it. For the same reason each has two threads.
    """
    cores = usable_cores()
    count = workers or cores // CORES_PER_WORKER + 1
    least = min(cores, CORES_PER_WORKER)
    return [max(least, cores // count + (number < cores % count)) for number in range(count)]


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    share: int
    """Index of its share of the cores."""


class LocalCrew:
    """See :class:`streamseg.archive.scheduler.Crew`."""

    def __init__(self, job: Job, workers: int | None = None) -> None:
        self._job = job
        self._threads = share_cores(workers)
        self.size = len(self._threads)
        self._workers: dict[int, _Worker] = {}
        self._next = 0
        # Never fork: inference libraries have threads, which a forked process lacks.
        self._context = multiprocessing.get_context("spawn")

    def hire(self) -> int:
        taken = {worker.share for worker in self._workers.values()}
        share = next(index for index in range(self.size) if index not in taken)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._job, self._threads[share]), daemon=True
        )
        process.start()
        theirs.close()
        self._next += 1
        self._workers[self._next] = _Worker(process, ours, share)
        return self._next

    def assign(self, worker: int, clip: Clip) -> None:
        with suppress(OSError):  # it has died, which its pipe reports
            self._workers[worker].pipe.send(clip)

    def events(self, timeout: float) -> list[Event]:
        pipes: dict[Any, int] = {worker.pipe: number for number, worker in self._workers.items()}
        if not pipes:
            time.sleep(timeout)
        return [self._event(pipes[pipe]) for pipe in wait(list(pipes), timeout)]

    def _event(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            kind, values = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            kind, values = Kind.DIED, {"reason": _cause(worker.process.exitcode)}
        if kind is Kind.DIED:
            self.dismiss(number)
        return Event(number, kind, **values)

    def dismiss(self, worker: int) -> None:
        gone = self._workers.pop(worker)
        gone.process.kill()
        gone.process.join(5)
        gone.pipe.close()

    def close(self) -> None:
        for number in list(self._workers):
            self.dismiss(number)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def _work(pipe: Connection, job: Job, threads: int) -> None:
    """The life of a worker."""
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; who started us decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if sys.platform == "linux":  # also where a decoder hangs in C, so that no thread of Python can run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    import cv2

    cv2.setNumThreads(1)
    try:
        backend = job.load_engine(threads)
    except (StreamsegError, ImportError) as error:
        pipe.send((Kind.UNABLE, {"reason": one_line(error)}))
        return
    pipe.send((Kind.READY, {}))
    while True:
        clip: Clip = pipe.recv()
        try:
            outcome = segment_clip(
                job, clip, backend, lambda frames: pipe.send((Kind.FRAMES, {"frames": frames}))
            )
        except (EngineError, MemoryError) as error:
            pipe.send((Kind.DIED, {"reason": one_line(error)}))
            return
        pipe.send((Kind.DONE, {"outcome": outcome}))


def _leave_with_parent() -> None:
    """End this process when the one that started it has ended, however that happened."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
