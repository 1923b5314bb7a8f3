"""The run of ``streamseg dicom listen``: receives in the background, segments and sends cine after cine."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from streamseg.cli.console import Stop, limit_opencv_threads, print_json, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.replay_clip import ReplayOptions, run_clip
from streamseg.core.errors import EngineError, SinkError, StreamsegError, one_line
from streamseg.core.types import Backend
from streamseg.dicom_network.listener import Listener
from streamseg.dicom_network.peer import Peer
from streamseg.dicom_network.sender import send
from streamseg.dicom_network.spool import Spool
from streamseg.dicom_network.tls import TlsFiles
from streamseg.sinks.dicom import dicom_paths

RETRY_S = 60.0
"""Time between attempts to send results that the archive did not take, and to write those that failed."""
MAX_TRIES = 3
"""Attempts to write the results of a cine."""
_TICK_S = 0.2


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """The user's options."""

    port: int
    address: str
    title: str
    spool: Path
    segment: bool
    archive: Peer | None
    burned_in: bool
    allowed: tuple[str, ...]
    tls: TlsFiles | None
    send_tls: TlsFiles | None
    """For ``archive``."""
    engine: str | None


@dataclass(slots=True)
class Counts:
    """What a run did."""

    received: int = 0
    segmented: int = 0
    failed: int = 0
    sent: int = 0
    """Cines whose results the archive has."""


def listen_until_stopped(request: ListenRequest, *, as_json: bool) -> None:
    """Receive, segment and send until a signal. Raises UsageError and SinkError for what cannot be used."""
    spool = Spool(request.spool)
    try:
        with _engine(request) as backend, stop_on_signals() as stop:
            run = _Run(request, spool, backend, stop)
            run.until_stopped()
    finally:
        spool.close()
    waiting, unsent = len(spool.waiting()), len(spool.finished()) if request.archive else 0
    if as_json:
        counts = run.counts
        print_json(
            {
                "received": counts.received,
                "segmented": counts.segmented,
                "failed": counts.failed,
                "sent": counts.sent,
                "waiting": waiting,
                "unsent": unsent,
            }
        )
    left = (
        f"; {waiting} cines and the results of {unsent} wait for the next start" if waiting or unsent else ""
    )
    say(f"stopped by {stop.cause}{left}")
    raise typer.Exit(stop.exit_code)


@contextmanager
def _engine(request: ListenRequest) -> Iterator[Backend | None]:
    if not request.segment:
        yield None
        return
    limit_opencv_threads()
    backend = load_engine(request.engine, throughput=True)
    try:
        yield backend
    finally:
        backend.close()


class _Run:
    def __init__(self, request: ListenRequest, spool: Spool, backend: Backend | None, stop: Stop) -> None:
        self.counts = Counts()
        self._request, self._spool, self._backend, self._stop = request, spool, backend, stop
        self._next_attempt = 0.0
        self._retries: dict[str, float] = {}
        self._tries: Counter[str] = Counter()

    def until_stopped(self) -> None:
        """Cines that waited since an earlier run come first."""
        request = self._request
        listener = Listener(
            self._spool,
            title=request.title,
            address=request.address,
            port=request.port,
            allowed=request.allowed,
            tls=request.tls,
            say=say,
        )
        try:
            how = "" if request.tls is None else ", with TLS"
            where = f"{request.address} port {listener.port}"
            say(f"listening on {where} as {request.title}{how}; Ctrl-C stops")
            pending = self._spool.waiting()
            while not self._stop:
                pending += self._newly_received(listener, wait=not pending)
                pending += self._due()
                if self._backend is None:
                    pending.clear()
                elif pending:
                    self._segment(pending.pop(0), self._backend)
                self._send_results()
        finally:
            listener.close()

    def _newly_received(self, listener: Listener, *, wait: bool) -> list[str]:
        found: list[str] = []
        try:
            found.append(listener.received.get(wait, _TICK_S))
            while True:
                found.append(listener.received.get_nowait())
        except queue.Empty:
            self.counts.received += len(found)
            return found

    def _segment(self, uid: str, backend: Backend) -> None:
        cine = self._spool.received(uid)
        if not cine.exists():
            return
        try:
            outputs = dicom_paths(self._spool.working(uid), uid, burned_in=self._request.burned_in)
            run = run_clip(str(cine), [], backend, ReplayOptions(), self._stop, dicom=outputs)
            if self._stop:
                self._spool.abandon(uid)
                return
            if run.error is not None:
                raise run.error
            self._spool.finish(uid)
        except EngineError:
            raise  # no other cine would fare better
        except SinkError as error:
            self._try_again(uid, error)
        except StreamsegError as error:
            self._set_aside(uid, one_line(error))
        else:
            self.counts.segmented += 1
            self._tries.pop(uid, None)
            states = ", ".join(f"{state} {count}" for state, count in run.states.items())
            say(f"segmented {uid}: {run.frames} frames in {run.seconds:.1f} s; {states}")
            self._next_attempt = 0.0

    def _try_again(self, uid: str, error: SinkError) -> None:
        """The disk may have space later; a cine whose results cannot be written even then is set aside."""
        self._spool.abandon(uid)
        self._tries[uid] += 1
        if self._tries[uid] >= MAX_TRIES:
            self._set_aside(uid, one_line(error))
        else:
            self._retries[uid] = time.monotonic() + RETRY_S
            say(f"error: {uid}: {one_line(error)}; tried again in {RETRY_S:.0f} s")

    def _due(self) -> list[str]:
        """Cines whose time to be tried again has come."""
        now = time.monotonic()
        due = [uid for uid, when in self._retries.items() if when <= now]
        for uid in due:
            del self._retries[uid]
        return due

    def _set_aside(self, uid: str, reason: str) -> None:
        self.counts.failed += 1
        try:
            aside = self._spool.fail(uid)
        except OSError as error:
            say(f"error: {uid}: {reason}; it stays where it is ({one_line(error)})")
        else:
            say(f"error: {uid}: {reason}; kept as {aside}")

    def _send_results(self) -> None:
        archive = self._request.archive
        if archive is None or time.monotonic() < self._next_attempt:
            return
        for uid in self._spool.finished():
            if self._stop:
                return
            if not self._send(uid, archive):
                self._next_attempt = time.monotonic() + RETRY_S
                return

    def _send(self, uid: str, archive: Peer) -> bool:
        files = self._spool.results(uid)
        try:
            title, tls = self._request.title, self._request.send_tls
            outcomes = list(send(files, archive, title=title, tls=tls, stop=self._stop.event))
        except StreamsegError as error:
            say(f"error: {one_line(error)}; tried again in {RETRY_S:.0f} s")
            return False
        if refused := [sent.reason for sent in outcomes if sent.reason]:
            say(f"error: results of {uid}: {refused[0]}; tried again in {RETRY_S:.0f} s")
            return False
        if len(outcomes) < len(files):
            return False
        self._spool.remove_results(uid)
        self.counts.sent += 1
        say(f"sent the results of {uid} to {archive}")
        return True
