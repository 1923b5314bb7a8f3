"""Sends DICOM files as they are to an archive: C-ECHO, then C-STORE of each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association
from pynetdicom.events import EVT_CONN_OPEN

from streamseg.capture.dicom.header import read_header, translated_errors
from streamseg.capture.files import check_readable
from streamseg.core.errors import SinkError
from streamseg.dicom_network.peer import OWN_TITLE, VERIFICATION, Peer
from streamseg.dicom_network.tls import SenderContext, TlsFiles, refusal, sender_context

CONNECT_S, ANSWER_S, IDLE_S = 10.0, 60.0, 60.0
_MAX_CONTEXTS = 127
"""Presentation contexts of an association, without that of the C-ECHO (PS3.8, 9.3.2.2)."""
_SUCCESS, _WARNING = 0x0000, 0xB000

# A long cine must not be in memory as a whole; nor may it be encoded anew on its way.
_config.STORE_SEND_CHUNKED_DATASET = True
_config.LOG_HANDLER_LEVEL = "none"


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome for one file."""

    path: Path
    reason: str = ""
    """Why it is not stored; empty if it is."""
    warning: str = ""
    """What the archive remarked about a file that it stored."""


@dataclass(frozen=True, slots=True)
class _Object:
    path: Path
    kind: UID
    syntax: UID


def send(
    paths: Sequence[Path],
    peer: Peer,
    *,
    title: str = OWN_TITLE,
    tls: TlsFiles | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Sent]:
    """Send files one after another, and yield the outcome of each, in their order.

    Setting ``stop`` ends after the file in progress. Raises SourceError or UsageError for a file that is not
    DICOM and for certificates that cannot be used, before anything is sent, and SinkError if the peer cannot
    be reached, has no certificate that is trusted, or refuses the association.
    """
    objects = [_inspect(path) for path in paths]
    context = None if tls is None else sender_context(tls)
    for group in _grouped(objects):
        yield from _send_group(group, peer, title, context, stop or threading.Event())


def _inspect(path: Path) -> _Object:
    check_readable(path)
    what = "is no DICOM file with a file header, which sending needs; leave it out"
    with translated_errors(path, what), path.open("rb") as file:
        meta = read_header(file, ("SOPInstanceUID",))[0].file_meta
        return _Object(path, UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID))


def _grouped(objects: Sequence[_Object]) -> Iterator[list[_Object]]:
    """Runs of files whose presentation contexts fit into one association."""
    group: list[_Object] = []
    for one in objects:
        if len({(o.kind, o.syntax) for o in (*group, one)}) > _MAX_CONTEXTS:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _send_group(
    group: list[_Object], peer: Peer, title: str, tls: SenderContext | None, stop: threading.Event
) -> Iterator[Sent]:
    if stop.is_set():
        return
    with _associated(group, peer, title, tls) as association:
        echoed = association.send_c_echo()
        if echoed.get("Status") != _SUCCESS:
            raise SinkError(f"{peer} does not answer to C-ECHO; check its address and AE title")
        for one in group:
            if stop.is_set():
                return
            yield _store(association, one, peer)


@contextmanager
def _associated(
    group: list[_Object], peer: Peer, title: str, tls: SenderContext | None
) -> Iterator[Association]:
    entity = AE(ae_title=title)
    entity.connection_timeout, entity.acse_timeout = CONNECT_S, CONNECT_S
    entity.dimse_timeout, entity.network_timeout = ANSWER_S, IDLE_S
    pairs = dict.fromkeys((one.kind, one.syntax) for one in group)
    contexts = [build_context(VERIFICATION), *(build_context(kind, syntax) for kind, syntax in pairs)]
    opened: list[socket.socket] = []
    association = entity.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.title,
        tls_args=None if tls is None else (tls, tls.server_name or peer.host),
        evt_handlers=[(EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket))],
    )
    try:
        _check_established(association, peer, title, tls, connected=bool(opened))
        yield association
    finally:
        if association.is_established:
            association.release()
        for connection in opened:
            connection.close()  # which pynetdicom leaves out if the other side was the first


def _check_established(
    association: Association, peer: Peer, title: str, tls: SenderContext | None, *, connected: bool
) -> None:
    if association.is_rejected:
        raise SinkError(
            f"{peer} refuses the association of {title}; enter this AE title there, and check the archive's"
        )
    if not association.is_established:
        if tls is not None and tls.error is not None:
            raise refusal(tls.error, str(peer))
        # An archive that refuses and closes at once may reset the connection before its refusal is read
        # (DCMTK's storescp does), so a connection without an answer may be a refusal as well.
        hint = ", and whether it wants TLS (--tls)" if tls is None else ""
        raise SinkError(
            f"{peer} took the connection and gave no answer; check that the port is DICOM's, AE titles{hint}"
            if connected
            else f"{peer} cannot be reached; check host and port, and that it is running"
        )


def _store(association: Association, one: _Object, peer: Peer) -> Sent:
    if not association.is_established:
        return Sent(one.path, f"{peer} ended the association")
    try:
        answer = association.send_c_store(one.path)
    except ValueError:
        kind, syntax = one.kind.name[:60], one.syntax.name[:60]
        return Sent(one.path, f"{peer} does not accept {kind} in {syntax}")
    except OSError as error:
        return Sent(one.path, f"cannot be read: {error.strerror}")
    return _judged(answer, one, peer)


def _judged(answer: Dataset, one: _Object, peer: Peer) -> Sent:
    status = answer.get("Status")
    if status is None:
        return Sent(one.path, f"{peer} gave no answer within {ANSWER_S:.0f} s, or left")
    if status == _SUCCESS:
        return Sent(one.path)
    if status & 0xF000 == _WARNING:
        return Sent(one.path, warning=f"stored with the warning 0x{status:04X}")
    meaning = next((words for first, last, words in _FAILURES if first <= status <= last), "failure")
    return Sent(one.path, f"{peer} refused it: {meaning} (0x{status:04X})")


_FAILURES = (
    (0x0111, 0x0111, "it has another object of this UID"),
    (0x0122, 0x0122, "it does not take this kind of object"),
    (0x0124, 0x0124, "not authorised"),
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "the data does not match its kind"),
    (0xC000, 0xCFFF, "it cannot understand the data"),
)
"""Ranges of C-STORE's status (PS3.4, B.2.3; PS3.7, annex C)."""
