"""Takes packets off the network as they arrive, in a thread of its own, so that arrival times are true."""

from __future__ import annotations

import threading
import time
from collections import deque

from streamseg.capture.rtsp.jpeg import JpegAssembler
from streamseg.capture.rtsp.nal import Assembler, CodedPicture, NalAssembler
from streamseg.capture.rtsp.rtp import SenderReport, Sequencer, parse_rtp
from streamseg.capture.rtsp.sdp import VideoTrack
from streamseg.capture.rtsp.session import RtspSession
from streamseg.core.errors import SourceError

_WAIT_SECONDS = 0.5
_BACKLOG_NS = 1_000_000_000
"""Frames that wait longer than this for the decoder are dropped: it cannot keep up, or nobody reads."""
_BACKLOG_BYTES = 64 << 20
_KEY_PAUSE_NS = 500_000_000
_END_SECONDS = 1.0


class Receiver:
    """Queues the coded pictures of a session that plays. Owns the session from now on."""

    def __init__(self, session: RtspSession, *, reorder: bool) -> None:
        """Begin to receive; ``reorder`` for a transport that can change the order of packets."""
        self._session = session
        self._sequencer = Sequencer(reorder=reorder)
        self._assembler = _assembler(session.track)
        self._pictures: deque[CodedPicture] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._failure: SourceError | None = None
        self._closed = False
        self._key_wanted = False
        self._key_asked_ns = 0
        self._sender = 0
        self.overrun = 0
        """Frames that were dropped because nobody took them in time."""
        self.heard = False
        """Whether any packet of the stream has arrived."""
        self._thread = threading.Thread(target=self._run, name="streamseg-rtsp", daemon=True)
        self._thread.start()

    @property
    def strangers(self) -> str:
        """An address that sent UDP packets to us, but is not the server's; empty if there was none."""
        return self._session.strangers

    def get(self, deadline: float) -> CodedPicture | None:
        """The next picture; None if ``deadline`` (``time.monotonic()``) passed or this was closed.

        Raises SourceError if the stream has ended, after its last picture.
        """
        with self._changed:
            while not self._pictures and not self._closed:
                if self._failure is not None:
                    raise self._failure
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            if self._closed:
                return None
            picture = self._pictures.popleft()
            self._waiting_bytes -= len(picture.data)
            return picture

    def take_reports(self) -> list[SenderReport]:
        """What the followed sender has reported of its clock since the last call."""
        reports = []
        while self._session.reports:
            reports.append(self._session.reports.popleft())
        return [report for report in reports if report.sender == self._sender]

    def want_key(self) -> None:
        """Have the sender asked for a key frame, if it was not just asked."""
        if time.monotonic_ns() - self._key_asked_ns >= _KEY_PAUSE_NS:
            self._key_asked_ns = time.monotonic_ns()
            self._key_wanted = True
            self._session.wake()

    def close(self) -> None:
        """End the session; from any thread, within about a second."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._session.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        try:
            while not self._closed:
                self._step()
        except SourceError as error:
            self._fail(error)
        except Exception as error:  # a thread that dies silently would look like a source that stalls
            self._fail(SourceError(f"the stream cannot be read ({type(error).__name__}: {error})"))
        finally:
            self._session.close()

    def _step(self) -> None:
        if self._key_wanted:
            self._key_wanted = False
            self._session.ask_for_key(self._sender)
        for data, arrived_ns in self._session.receive(_WAIT_SECONDS):
            packet = parse_rtp(data)
            if packet is None or packet.payload_type != self._session.track.payload_type:
                continue  # if it was one of ours, its number will be missed
            if self._session.sender not in (None, packet.sender):
                continue  # the server has announced another sender
            if self._closed:
                return
            self._sender, self.heard = packet.sender, True
            for arrival in self._sequencer.push(packet, arrived_ns):
                for picture in self._assembler.push(arrival):
                    self._put(picture)

    def _put(self, picture: CodedPicture) -> None:
        with self._changed:
            self._waiting_bytes += len(picture.data)
            oldest = self._pictures[0].arrived_ns if self._pictures else picture.arrived_ns
            if picture.arrived_ns - oldest > _BACKLOG_NS or self._waiting_bytes > _BACKLOG_BYTES:
                self.overrun += len(self._pictures)
                self._pictures.clear()
                self._waiting_bytes = len(picture.data)
                self._pictures.append(
                    CodedPicture(b"", picture.timestamp, picture.arrived_ns, False, broken=True)
                )
            self._pictures.append(picture)
            self._changed.notify_all()

    def _fail(self, error: SourceError) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()


def _assembler(track: VideoTrack) -> Assembler:
    if track.codec == "mjpeg":
        return JpegAssembler(track.size)
    return NalAssembler(hevc=track.codec == "hevc", parameter_sets=track.parameter_sets)
