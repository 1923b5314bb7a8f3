"""DCMTK's programs as the other side: an archive (storescp) and a scanner (storescu)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamseg.dicom_network.peer import Peer
from tests.waiting import wait_for


def dcmtk(program: str) -> str:
    """The path of a program of DCMTK; skips without it. pynetdicom brings others of the same names."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    foreign = os.pathsep.join(folder for folder in folders if not (Path(folder) / "python").exists())
    found = shutil.which(program, path=foreign) or shutil.which(program, path="/usr/bin")
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's dcmtk)")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def archive(folder: Path, *options: str) -> Iterator[Peer]:
    """A running storescp that stores into a folder; it accepts every syntax."""
    program = dcmtk("storescp")
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [program, "-aet", "PACS", "+xa", "-od", str(folder), *options, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            wait_for(lambda: answers(port), "storescp")
            yield Peer("PACS", "127.0.0.1", port)
        finally:
            running.kill()


def scanner(port: int, *files: Path | str, called: str = "STREAMSEG", calling: str = "SCANNER") -> list[str]:
    """The command of a storescu that sends JPEG files; ``files`` may begin with options."""
    options = [str(file) for file in files if not isinstance(file, Path)]
    paths = [str(file) for file in files if isinstance(file, Path)]
    titles = ["-aec", called, "-aet", calling]
    return [dcmtk("storescu"), "-xy", *titles, *options, "127.0.0.1", str(port), *paths]


def scan(
    port: int, *files: Path | str, called: str = "STREAMSEG", calling: str = "SCANNER"
) -> tuple[int, str]:
    """Send files; the exit code of storescu and what it said."""
    command = scanner(port, *files, called=called, calling=calling)
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    return said.returncode, said.stdout + said.stderr
