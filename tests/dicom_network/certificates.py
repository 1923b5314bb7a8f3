"""Certificates for tests, made by OpenSSL's program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamseg.dicom_network.tls import TlsFiles


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, name: str = "Test CA") -> Authority:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-days", "2", "-keyout", made.key, "-out", made.cert),
        )
        return made

    @property
    def cert(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def key(self) -> Path:
        return self.folder / "ca-key.pem"

    def sign(
        self, name: str, *, names: str = "IP:127.0.0.1", days: int = 2, password: str | None = None
    ) -> TlsFiles:
        """A certificate with a key; of ``days`` below 0 it has expired."""
        cert, key, request = (self.folder / f"{name}{end}" for end in (".pem", "-key.pem", ".csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        locked = ("-nodes",) if password is None else ("-passout", f"pass:{password}")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *locked),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        key.chmod(0o600)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial"),
            *("-extfile", extensions, "-days", days, "-out", cert),
        )
        return TlsFiles(cert, key, self.cert)


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
