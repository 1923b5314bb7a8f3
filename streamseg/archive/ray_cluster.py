"""Workers on the machines of a Ray cluster: actors, each with an engine of its own and the cores it asks for.

Ray starts the actors and tells when one has died, with its machine or alone; everything else (which clip
comes next, what is done again) is the scheduler's, as with workers on one machine. Results go through the
file system that all machines share; between machines only names and counts travel.
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any

from streamseg.archive.clips import Clip
from streamseg.archive.local import CORES_PER_WORKER
from streamseg.archive.scheduler import Event, Kind
from streamseg.archive.segment import Job, segment_clip
from streamseg.core.errors import EngineError, MissingExtra, StreamsegError, UsageError, one_line
from streamseg.core.hardware import THREADS_VARIABLE, thread_count

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the cluster's address; unset: the one that runs on this machine."""
_POLL_S = 5.0
"""Interval at which workers are asked for the frames that they have done."""


class Worker:
    """The actor. Its methods run in threads, so that it answers while it works."""

    def __init__(self, job: Job, threads: int) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._job = job
        self._frames = self._beats = 0
        self._unable = ""
        try:
            self._backend = job.load_engine(threads)
        except (StreamsegError, ImportError) as error:
            self._unable = one_line(error)

    def ready(self) -> tuple[Kind, dict[str, Any]]:
        return (Kind.UNABLE, {"reason": self._unable}) if self._unable else (Kind.READY, {})

    def segment(self, clip: Clip) -> tuple[Kind, dict[str, Any]]:
        self._frames = 0
        try:
            return Kind.DONE, {"outcome": segment_clip(self._job, clip, self._backend, self._beat)}
        except (EngineError, MemoryError) as error:
            return Kind.DIED, {"reason": one_line(error)}

    def progress(self) -> tuple[int, int]:
        """Signs of life of the work itself, and frames of the clip that are done."""
        return self._beats, self._frames

    def _beat(self, frames: int) -> None:
        self._frames = frames
        self._beats += 1


class RayCrew:
    """See :class:`streamseg.archive.scheduler.Crew`."""

    def __init__(self, job: Job, workers: int | None = None) -> None:
        """Connect to a running cluster.

        ``workers`` None gives every two processors of the cluster one; STREAMSEG_THREADS sets how many
        processors a worker has. Raises MissingExtra, and UsageError without a cluster or for one without
        token authentication, which whoever reaches its ports could have run anything.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports nothing about the hospital
        if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token":
            raise UsageError(
                f"RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']!r}: anyone who reaches the cluster could run "
                "programs on it; set RAY_AUTH_MODE=token on all machines"
            )
        try:
            ray: Any = import_module("ray")  # not its types, which not every environment has
        except ImportError as error:
            raise MissingExtra("archive --runner ray", "ray", "archive-ray") from error
        self._ray = ray
        address = os.environ.get(ADDRESS, "auto")
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray has an exception of its own for each way to fail
            raise UsageError(
                f"no Ray cluster can be reached at {address!r} ({one_line(error, 200)}); start one with: "
                "ray start --head --num-cpus N"
            ) from error
        self._threads = thread_count(None) if os.environ.get(THREADS_VARIABLE) else CORES_PER_WORKER
        cores = int(ray.cluster_resources().get("CPU", 0))
        self._threads = max(1, min(self._threads or 1, cores))
        self.size = workers or max(1, cores // self._threads)
        self._actor = ray.remote(
            num_cpus=self._threads, max_restarts=0, max_task_retries=0, max_concurrency=2
        )(Worker)
        self._job = job
        self._actors: dict[int, Any] = {}
        self._busy: dict[Any, int] = {}
        """What a worker will answer -> the worker; of those that start or work on a clip."""
        self._asked: dict[Any, int] = {}
        """The same, of the question how far it is."""
        self._beats: dict[int, int] = {}
        """The last answer of each worker that works."""
        self._next_question = 0.0
        self._next = 0

    def hire(self) -> int:
        self._next += 1
        actor = self._actor.remote(self._job, self._threads)
        self._actors[self._next] = actor
        self._busy[actor.ready.remote()] = self._next
        return self._next

    def assign(self, worker: int, clip: Clip) -> None:
        self._busy[self._actors[worker].segment.remote(clip)] = worker
        self._beats[worker] = -1

    def events(self, timeout: float) -> list[Event]:
        self._ask()
        wanted = [*self._busy, *self._asked]
        if not wanted:
            time.sleep(timeout)
            return []
        self._ray.wait(wanted, timeout=timeout)  # for the first
        done, _ = self._ray.wait(wanted, num_returns=len(wanted), timeout=0)
        found = [self._progress(ref) if ref in self._asked else self._answer(ref) for ref in done]
        return [event for event in found if event is not None]

    def _ask(self) -> None:
        """Now and then ask the workers how far they are, those that have answered the last time."""
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + _POLL_S
            for worker in self._beats.keys() - self._asked.values():
                self._asked[self._actors[worker].progress.remote()] = worker

    def _progress(self, answer: Any) -> Event | None:
        worker = self._asked.pop(answer)
        try:
            beats, frames = self._ray.get(answer)
        except Exception:  # it has died, which the answer to its clip says too
            return None
        if self._beats.get(worker, beats) == beats:  # it answers, but its work does not go on
            return None
        self._beats[worker] = beats
        return Event(worker, Kind.FRAMES, frames=frames)

    def _answer(self, answer: Any) -> Event | None:
        worker = self._busy.pop(answer, None)
        if worker is None:  # it was dismissed a moment ago
            return None
        self._beats.pop(worker, None)
        try:
            kind, values = self._ray.get(answer)
        except Exception as error:  # the actor, its process or its machine has died
            kind, values = Kind.DIED, {"reason": _reason(error)}
        if kind is Kind.DIED:
            self.dismiss(worker)
        return Event(worker, kind, **values)

    def dismiss(self, worker: int) -> None:
        actor = self._actors.pop(worker)
        self._beats.pop(worker, None)
        for answers in (self._busy, self._asked):
            for answer in [answer for answer, number in answers.items() if number == worker]:
                del answers[answer]
        self._ray.kill(actor)

    def close(self) -> None:
        for worker in list(self._actors):
            self.dismiss(worker)
        self._ray.shutdown()


def _reason(error: Exception) -> str:
    """Class and last line of one of Ray's errors, which repeat the worker's whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {one_line(lines[-1], 200)}" if lines else type(error).__name__
