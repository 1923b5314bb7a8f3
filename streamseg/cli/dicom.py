"""``streamseg dicom``: sends DICOM files to an archive, and receives cines from scanners."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.console import print_json, say, stop_on_signals
from streamseg.cli.options import EngineOption, JsonOption

if TYPE_CHECKING:
    from streamseg.dicom_network.tls import TlsFiles

dicom = typer.Typer(
    name="dicom",
    help="Send DICOM files to an archive (PACS), or receive cines from scanners and segment them. Needs the "
    "extra dicom-network.",
    rich_markup_mode=None,
)
TitleOption = Annotated[str, typer.Option("--aet", metavar="AET", help="Our own AE title.")]
CertOption = Annotated[
    Path | None,
    typer.Option("--tls-cert", metavar="FILE", help="Our certificate (PEM), then those up to its CA."),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        help="The key of --tls-cert (PEM); STREAMSEG_TLS_KEY_PASSWORD holds its password.",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--tls-name",
        metavar="NAME|any",
        help="Name that the archive's certificate must have. Default: its host; any: not compared.",
    ),
]


@dicom.command()
def send(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files, or folders of them.")],
    to: Annotated[str, typer.Option("--to", metavar="AET@HOST:PORT", help="The archive.")],
    aet: TitleOption = "STREAMSEG",
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt the connection, and check the archive's certificate.")
    ] = False,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca",
            metavar="FILE",
            help="Trusted certificates (PEM): CAs, or the archive's own. Default: those of the system.",
        ),
    ] = None,
    tls_name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files to an archive, as they are.

    Asks with a C-ECHO whether the archive answers, then stores one file after another (C-STORE). The exit
    code is 1 if one of them is not stored.
    """
    _need_network()
    from streamseg.core.errors import SinkError
    from streamseg.dicom_network.peer import Peer, checked_title
    from streamseg.dicom_network.sender import send as send_files

    peer, title = Peer.parse(to), checked_title(aet)
    secured = _tls_files(tls, tls_cert, tls_key, tls_ca, tls_name)
    paths = _dicom_files(files)
    outcomes = []
    error: SinkError | None = None
    with stop_on_signals() as stop:
        try:
            for sent in send_files(paths, peer, title=title, tls=secured, stop=stop.event):
                outcomes.append(sent)
                say(f"{sent.path}: {sent.reason or sent.warning or f'stored by {peer}'}")
        except SinkError as refused:
            error = refused
    stored = sum(1 for sent in outcomes if not sent.reason)
    if as_json:
        rows = [
            {"path": str(sent.path), "stored": not sent.reason, "note": sent.reason or sent.warning or None}
            for sent in outcomes
        ]
        said = None if error is None else str(error)
        print_json({"to": str(peer), "files": rows, "stored": stored, "error": said})
    if error is not None:
        raise error
    if stop:
        say(f"stopped by {stop.cause}; {stored} of {len(paths)} files are stored")
        raise typer.Exit(stop.exit_code)
    if stored < len(paths):
        raise SinkError(f"{len(paths) - stored} of {len(paths)} files are not stored, see above")


@dicom.command()
def listen(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="Port; 0: a free one.")
    ],
    spool: Annotated[
        Path,
        typer.Option("--spool", metavar="DIR", help="Private folder for what is received and its results."),
    ],
    aet: TitleOption = "STREAMSEG",
    then: Annotated[
        str | None,
        typer.Option(
            "--then", metavar="replay", help="replay: segment what is received. Default: only keep it."
        ),
    ] = None,
    send_to: Annotated[
        str | None,
        typer.Option("--send-to", metavar="AET@HOST:PORT", help="Send the results to this archive."),
    ] = None,
    burned_in: Annotated[
        bool, typer.Option("--burned-in", help="Also make the cine with the outlines drawn in.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="AET", help="AE title that may send; may be given more than once."),
    ] = None,
    bind: Annotated[
        str,
        typer.Option(
            "--bind",
            metavar="ADDRESS",
            help="Address to listen on; others than this computer's own need --allow.",
        ),
    ] = "127.0.0.1",
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt connections; senders need a certificate of --tls-ca.")
    ] = False,
    send_tls: Annotated[
        bool, typer.Option("--send-tls", help="Also use TLS, with the same files, for --send-to.")
    ] = False,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca",
            metavar="FILE",
            help="Trusted certificates (PEM): CAs, or the others' own.",
        ),
    ] = None,
    tls_name: NameOption = None,
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Receive cines from scanners, segment them, and send the results on, until Ctrl-C.

    Each result is a Segmentation and a report of the cine's study, as replay makes them with --dicom. A cine
    leaves the spool once its results are there, and results once the archive has them. What was interrupted
    is done at the next start.
    """
    _need_network()
    from streamseg.cli.dicom_listen import ListenRequest, listen_until_stopped
    from streamseg.core.errors import UsageError
    from streamseg.dicom_network.peer import Peer, checked_title
    from streamseg.dicom_network.tls import listener_context, sender_context

    if then not in (None, "replay"):
        raise UsageError(f"--then {then} is unknown; give replay, or leave it out")
    if then is None and (send_to or burned_in or engine):
        raise UsageError("--send-to, --burned-in and --engine belong to --then replay; give it, too")
    if send_to is None and (send_tls or tls_name):
        raise UsageError("--send-tls and --tls-name belong to --send-to; give it, too")
    files = _tls_files(tls or send_tls, tls_cert, tls_key, tls_ca, tls_name)
    if files is not None:  # before an engine is loaded
        _ = tls and listener_context(files), send_tls and sender_context(files)
    request = ListenRequest(
        port=port,
        address=_checked_address(bind, allow or []),
        title=checked_title(aet),
        spool=spool,
        segment=then is not None,
        archive=None if send_to is None else Peer.parse(send_to),
        burned_in=burned_in,
        allowed=tuple(map(checked_title, allow or [])),
        tls=files if tls else None,
        send_tls=files if send_tls else None,
        engine=engine,
    )
    listen_until_stopped(request, as_json=as_json)


def _need_network() -> None:
    from importlib.util import find_spec

    from streamseg.core.errors import MissingExtra

    if find_spec("pynetdicom") is None:
        raise MissingExtra("streamseg dicom", "pynetdicom", "dicom-network")


def _tls_files(
    used: bool, cert: Path | None, key: Path | None, authority: Path | None, name: str | None
) -> TlsFiles | None:
    """The files of TLS, None without it. Raises UsageError for files without it."""
    from streamseg.core.errors import UsageError
    from streamseg.dicom_network.tls import TlsFiles

    if not used and (cert or key or authority or name):
        raise UsageError("--tls-cert, --tls-key, --tls-ca and --tls-name belong to --tls; give it, too")
    return TlsFiles(cert, key, authority, name) if used else None


def _checked_address(text: str, allowed: Sequence[str]) -> str:
    """A numeric address; one that other computers reach needs senders that are named. Raises UsageError."""
    from ipaddress import ip_address

    from streamseg.core.errors import UsageError

    try:
        address = ip_address(text)
    except ValueError as error:
        raise UsageError(f"--bind {text!r} is not an address in numbers, such as 192.168.1.5") from error
    if not address.is_loopback and not allowed:
        raise UsageError(
            f"other computers reach {text}; name the AE titles that may send, such as --allow SCANNER"
        )
    return text


def _dicom_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and those in folders. Raises UsageError for a folder without any."""
    from streamseg.capture.files import is_dicom, is_folder, visible_files
    from streamseg.core.errors import UsageError

    found: list[Path] = []
    for path in paths:
        if not is_folder(path):
            found.append(path)
            continue
        inside = [file for file in visible_files(path) if is_dicom(file)]
        if not inside:
            raise UsageError(f"no DICOM files in {path}; give files, or a folder that holds some")
        found += inside
    return found
