"""Receives cines: a storage SCP that keeps whole files of its spool only.

Messages name applications and instances, never a patient.
"""

from __future__ import annotations

import queue
import ssl
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from pydicom.uid import (
    UID,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pynetdicom import AE, _config, evt

from streamseg.capture.dicom.header import read_header
from streamseg.capture.dicom.source import readable_syntaxes
from streamseg.core.cine import is_uid
from streamseg.core.errors import UsageError, one_line
from streamseg.core.types import Say
from streamseg.dicom_network.peer import VERIFICATION
from streamseg.dicom_network.spool import Spool
from streamseg.dicom_network.tls import TlsFiles, listener_context

MAX_ASSOCIATIONS = 8
ANSWER_S, IDLE_S = 30.0, 60.0
"""Seconds after which a peer that does not answer, or sends nothing, is left."""
_KINDS = (
    UltrasoundMultiFrameImageStorage,
    UltrasoundImageStorage,
    UID("1.2.840.10008.5.1.4.1.1.3"),  # ultrasound of scanners from before 1996, retired
    UID("1.2.840.10008.5.1.4.1.1.6"),
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
"""What may be a cine: ultrasound, and the screens that frame grabbers store."""
_MAX_PDU = 1 << 17
_MAX_MESSAGE = 1 << 20
"""Bytes of one message of the protocol: data has at most _MAX_PDU, a request for an association a few kB."""
_STORED, _DUPLICATE, _FULL, _MISMATCH, _UNREADABLE = 0x0000, 0x0111, 0xA700, 0xA900, 0xC000

_config.STORE_RECV_CHUNKED_DATASET = True  # a long cine must not be in memory as a whole
_config.LOG_HANDLER_LEVEL = "none"


class Listener:
    """A storage SCP that runs in threads of its own from its construction until :meth:`close`."""

    def __init__(
        self,
        spool: Spool,
        *,
        title: str,
        address: str,
        port: int,
        allowed: Sequence[str] = (),
        tls: TlsFiles | None = None,
        say: Say,
    ) -> None:
        """Listen on an address; port 0 takes a free one. ``allowed`` are the AE titles that may send; none
        allows all. With ``tls`` callers need a certificate of its authority. Raises UsageError for an address
        or certificates that cannot be used."""
        self.received: queue.SimpleQueue[str] = queue.SimpleQueue()
        """UIDs of cines, each once it is whole in the spool."""
        self._spool, self._say = spool, say
        entity = AE(ae_title=title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(allowed)
        entity.maximum_associations = MAX_ASSOCIATIONS
        entity.maximum_pdu_size = _MAX_PDU
        entity.acse_timeout = entity.dimse_timeout = ANSWER_S
        entity.network_timeout = IDLE_S
        entity.add_supported_context(VERIFICATION)
        for kind in _KINDS:
            entity.add_supported_context(kind, list(readable_syntaxes()))
        context = None if tls is None else listener_context(tls)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._shake_hands),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_OPEN, self._limit),
            (evt.EVT_ESTABLISHED, self._guard),
            (evt.EVT_CONN_CLOSE, self._clean),
            (evt.EVT_REJECTED, self._tell_rejected),
            (evt.EVT_ABORTED, self._tell_aborted),
        ]
        self._entity = entity
        try:
            server = entity.start_server(
                (address, port), block=False, ssl_context=context, evt_handlers=handlers
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {address} port {port}: {one_line(error)}; give another port"
            ) from error
        self._server = cast(Any, server)
        self._server.daemon_threads = True  # closing does not wait for a caller that never begins TLS
        self.port = int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Abort what is being received, and stop listening."""
        self._server.shutdown()
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        """Keep a file that was received as a whole. Returns the status of the C-STORE."""
        sender = _sender(event)
        uid = str(cast(Any, event.request).AffectedSOPInstanceUID)
        if not is_uid(uid):
            self._say(f"refused a file from {sender}: its SOP Instance UID is not one")
            return _UNREADABLE
        part = Path(event.dataset_path)
        try:
            if _instance_of(part) != uid:
                self._say(f"refused {uid} from {sender}: the file has another SOP Instance UID")
                return _MISMATCH
            size = part.stat().st_size
            outcome = self._spool.publish(part, uid)
        except OSError as error:
            self._say(f"cannot keep {uid} from {sender}: {one_line(error)}")
            return _FULL
        if outcome == "other":
            self._say(f"refused {uid} from {sender}: another file of this UID waits already")
            return _DUPLICATE
        if outcome == "new":
            self._say(f"received {uid} from {sender}, {size / 1e6:.1f} MB")
            self.received.put(uid)
        return _STORED

    def _shake_hands(self, event: evt.Event) -> None:
        """Agree on TLS, in the connection's own thread; close the connection if that fails."""
        connection: Any = event.assoc.dul.socket
        if not isinstance(connection.socket, ssl.SSLSocket):
            return
        try:
            connection.socket.settimeout(ANSWER_S)
            connection.socket.do_handshake()
            connection.socket.settimeout(IDLE_S)  # a part of a record is nothing that can be read yet
        except OSError as error:
            reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
            said = one_line(reason).lower().replace("_", " ")
            self._say(f"refused a connection of {event.assoc.requestor.address or '?'}: TLS: {said}")
            shaken = connection.socket
            connection.close()
            shaken.close()  # which pynetdicom leaves out if the other side was the first

    def _limit(self, event: evt.Event) -> None:
        """Close a connection that announces a message of gigabytes, which pynetdicom would hold in memory."""
        connection: Any = event.assoc.dul.socket
        receive: Callable[[int], bytearray] = connection.recv

        def limited(size: int) -> bytearray:
            if size > _MAX_MESSAGE:
                self._say(f"closed a connection of {_sender(event)}: it announces {size} bytes at once")
                connection.close()
                raise ConnectionAbortedError
            return receive(size)

        connection.recv = limited

    def _guard(self, event: evt.Event) -> None:
        """Abort an association whose data cannot be written: pynetdicom would leave the sender waiting."""
        provider: Any = event.assoc.dimse
        association = event.assoc
        receive: Callable[[Any], None] = provider.receive_primitive

        def guarded(primitive: Any) -> None:
            try:
                receive(primitive)
            except OSError as error:
                self._say(f"aborted {_sender(event)}: {one_line(error)}; nothing of its file is kept")
                _drop_part(provider)
                association.dul.event_queue.put("Evt19")  # as for a message that cannot be decoded

        provider.receive_primitive = guarded

    def _clean(self, event: evt.Event) -> None:
        _drop_part(event.assoc.dimse)

    def _tell_rejected(self, event: evt.Event) -> None:
        self._say(f"refused an association of {_sender(event)}: AE title, or more than {MAX_ASSOCIATIONS}")

    def _tell_aborted(self, event: evt.Event) -> None:
        if not str(event.assoc.requestor.ae_title or "").strip():
            return  # it was none yet: what is no DICOM, or no TLS where that is wanted
        self._say(f"{_sender(event)} ended its association in the middle; nothing of a file in it is kept")


def _sender(event: evt.Event) -> str:
    requestor = event.assoc.requestor
    return f"{str(requestor.ae_title or '?').strip()}@{requestor.address or '?'}"


def _drop_part(provider: Any) -> None:
    """Remove the file of a message that never became whole."""
    message = provider.message
    part = getattr(message, "_data_set_path", None)
    if isinstance(part, Path):
        with suppress(OSError):
            message._data_set_file.close()
        part.unlink(missing_ok=True)
        message._data_set_file = message._data_set_path = None


def _instance_of(part: Path) -> str:
    """The SOP Instance UID inside a file; empty if it cannot be read. OSError passes through."""
    with part.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(read_header(file, ("SOPInstanceUID",))[0].get("SOPInstanceUID", ""))
        except OSError:
            raise
        except Exception:  # pydicom raises almost anything on damaged files
            return ""
