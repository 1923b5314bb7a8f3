"""TLS for DICOM associations (PS3.15, annex B): contexts from PEM files, which are checked first.

Messages name files and reasons, never what is in a file.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.core.errors import SinkError, UsageError, one_line
from streamseg.core.files import read_file

KEY_PASSWORD = "STREAMSEG_TLS_KEY_PASSWORD"
"""Environment variable with the password of an encrypted key: a command line is seen by others."""
ANY_NAME = "any"
_MAX_BYTES = 4 << 20
"""Of a PEM file: all public authorities of the world take a quarter of a megabyte."""
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _IP_MISMATCH = 9, 10, 62, 64
"""Reasons of OpenSSL for which a certificate is not valid (X509_V_ERR_*)."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one side, and what it expects of the other."""

    cert: Path | None = None
    """Own certificate, followed by those between it and its authority."""
    key: Path | None = None
    """The key of ``cert``."""
    authority: Path | None = None
    """Trusted certificates: of authorities, or of the other side itself; None: those of the system."""
    name: str | None = None
    """Name that the archive's certificate must have; None: the host in its address, ``any``: none."""


class SenderContext(ssl.SSLContext):
    """Of the side that connects. Keeps the first error of a connection, which pynetdicom only logs."""

    error: OSError | None = None
    server_name: str | None = None
    """Name to expect in the archive's certificate, where it is not the host of its address."""


class ListenerContext(ssl.SSLContext):
    """Of the side that listens. It wraps a connection without waiting for the other side's handshake, which
    pynetdicom would do in the thread that accepts connections: one that says nothing would block all others.
    """

    def wrap_socket(  # noqa: PLR0917  # the base class's signature
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = False,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        return super().wrap_socket(sock, server_side, False, suppress_ragged_eofs, server_hostname, session)


class _SenderSocket(ssl.SSLSocket):
    def connect(self, addr: Any) -> None:
        try:
            super().connect(addr)
        except OSError:
            self.close()  # pynetdicom does not
            raise

    def do_handshake(self, block: bool = False) -> None:
        with _kept(self.context, OSError):
            super().do_handshake(block)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        # In TLS 1.3 a listener refuses our certificate only after the handshake.
        with _kept(self.context, ssl.SSLError):
            return super().recv(buflen, flags)


@contextmanager
def _kept(context: ssl.SSLContext, kind: type[OSError]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        if isinstance(context, SenderContext):
            context.error = context.error or error
        raise


def sender_context(files: TlsFiles) -> SenderContext:
    """What connections to an archive are wrapped with. Raises UsageError for files that cannot be used."""
    context = SenderContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _SenderSocket
    if files.name == ANY_NAME:
        context.check_hostname = False
    else:
        context.server_name = files.name
    if files.authority is None:
        context.load_default_certs()
    else:
        _trust(context, files.authority)
    if files.cert is not None or files.key is not None:
        _load_own(context, files)
    return context


def listener_context(files: TlsFiles) -> ListenerContext:
    """What received connections are wrapped with; callers need a certificate of the authority.

    Raises UsageError for files that are not given or cannot be used.
    """
    if files.cert is None or files.authority is None:
        raise UsageError(
            "--tls needs a certificate of our own and the authority of the callers' certificates; give "
            "--tls-cert, --tls-key and --tls-ca"
        )
    context = ListenerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    _trust(context, files.authority)
    _load_own(context, files)
    return context


def refusal(error: OSError, who: str) -> SinkError:
    """What to tell a user about a connection that failed at an archive."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = {
            _EXPIRED: "renew it there",
            _NOT_YET_VALID: "check the clocks of both computers",
            _HOST_MISMATCH: "give the name in it with --tls-name",
            _IP_MISMATCH: "give the name in it with --tls-name",
        }.get(error.verify_code, "give the authority that signed it with --tls-ca")
        return SinkError(f"the certificate of {who} is not accepted ({error.verify_message}); {remedy}")
    reason = _reason(error)
    if "alert" in reason:
        return SinkError(
            f"{who} refuses the TLS connection ({reason}); give a certificate that it trusts with --tls-cert "
            "and --tls-key"
        )
    return SinkError(f"{who} does not answer in TLS ({reason}); check the port, or omit --tls")


def _trust(context: ssl.SSLContext, authority: Path) -> None:
    _check_pem(authority, "--tls-ca", b"CERTIFICATE")
    try:
        context.load_verify_locations(cafile=authority)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"--tls-ca {authority} cannot be read ({_reason(error)}); give it in PEM") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a certificate without authority: trusted itself
    ends = [str(one["notAfter"]) for one in context.get_ca_certs()]
    if ends and all(ssl.cert_time_to_seconds(end) < time.time() for end in ends):
        raise UsageError(f"--tls-ca {authority} expired on {ends[-1]}; give one that is valid")


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    cert, key = files.cert, files.key
    if cert is None or key is None:
        raise UsageError("--tls-cert and --tls-key belong together; give both")
    _check_pem(cert, "--tls-cert", b"CERTIFICATE")
    _check_pem(key, "--tls-key", b"PRIVATE KEY")
    if os.name == "posix" and key.stat().st_mode & stat.S_IROTH:
        raise UsageError(f"everybody here may read --tls-key {key}; make it yours alone (chmod 600)")
    try:
        context.load_cert_chain(cert, key, password=_password)
    except (ssl.SSLError, OSError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise UsageError(f"--tls-key {key} does not belong to --tls-cert {cert}; give its own") from error
        raise UsageError(
            f"--tls-cert {cert} or --tls-key {key} cannot be read ({_reason(error)}); give both in PEM, and "
            f"the password of an encrypted key in {KEY_PASSWORD}"
        ) from error
    if problem := _date_problem(cert, key):
        raise UsageError(f"--tls-cert {cert} {problem}")


def _check_pem(path: Path, option: str, what: bytes) -> None:
    try:
        data = read_file(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {option} {path}") from error
    except OSError as error:
        raise UsageError(f"cannot read {option} {path} ({one_line(error)}); check its rights") from error
    if not (b"-----BEGIN " in data and what + b"-----" in data):
        kind = what.decode().lower()
        raise UsageError(f"{option} {path} holds no {kind} in PEM; convert it with openssl, or give another")


def _password() -> str:
    """Of an encrypted key. Without this function OpenSSL would ask on the terminal."""
    found = os.environ.get(KEY_PASSWORD)
    if found is None:
        raise UsageError(f"the --tls-key is encrypted; put its password into {KEY_PASSWORD}")
    return found


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return str(reason).lower().replace("_", " ")


def _date_problem(cert: Path, key: Path) -> str | None:
    """What is wrong with the dates of a certificate: an association in memory with itself tells."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(cert, key, password=_password)
    client.check_hostname = False
    client.load_verify_locations(cafile=cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (asking, answering, asking):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return "has expired; renew it"
        if error.verify_code == _NOT_YET_VALID:
            return "is not valid yet; check the clock of this computer"
    return None
