"""Answers an RTSP server's challenge for a user and password: basic and digest (RFC 2617, RFC 7616)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

_FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES = {"md5": hashlib.md5, "sha-256": hashlib.sha256}


class Login:
    """A user and password that answer challenges. Its ``repr`` shows neither."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._basic = False
        self._digest: dict[str, str] = {}
        self._count = 0

    def challenge(self, offers: list[str]) -> bool:
        """Take a server's ``WWW-Authenticate`` headers; digest is preferred. False: none can be answered."""
        self._basic = False
        self._digest = {}
        self._count = 0
        for offer in offers:
            kind, _, rest = offer.strip().partition(" ")
            if kind.lower() == "basic":
                self._basic = True
            elif kind.lower() == "digest":
                fields = {key.lower(): quoted or plain for key, quoted, plain in _FIELD.findall(rest)}
                known = fields.get("algorithm", "MD5").lower() in _HASHES
                qop = fields.get("qop")
                usable = qop is None or "auth" in re.split(r"[\s,]+", qop)
                if known and usable and "nonce" in fields and not self._digest:
                    self._digest = fields
        return self._basic or bool(self._digest)

    def header(self, method: str, url: str) -> str | None:
        """The ``Authorization`` header of a request; None before a challenge."""
        if self._digest:
            return self._answer(method, url)
        if self._basic:
            pair = f"{self._user}:{self._password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return None

    def _answer(self, method: str, url: str) -> str:
        given = self._digest
        hashed = _HASHES[given.get("algorithm", "MD5").lower()]

        def digest(*parts: str) -> str:
            return hashed(":".join(parts).encode()).hexdigest()

        realm, nonce = given.get("realm", ""), given["nonce"]
        secret = digest(self._user, realm, self._password)
        action = digest(method, url)
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": url}
        extra = ""
        if "qop" in given:
            self._count += 1
            count, own = f"{self._count:08x}", secrets.token_hex(8)
            fields["response"] = digest(secret, nonce, count, own, "auth", action)
            fields["cnonce"] = own
            extra = f", qop=auth, nc={count}"
        else:
            fields["response"] = digest(secret, nonce, action)
        if "opaque" in given:
            fields["opaque"] = given["opaque"]
        if "algorithm" in given:
            extra += f", algorithm={given['algorithm']}"
        text = ", ".join(f'{key}="{_escaped(key, value)}"' for key, value in fields.items())
        return f"Digest {text}{extra}"


def _escaped(key: str, value: str) -> str:
    # Realm, nonce and opaque are given back as they came, with the escapes that they had.
    return value.replace("\\", "\\\\").replace('"', '\\"') if key == "username" else value
