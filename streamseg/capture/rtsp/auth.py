"""Answers an RTSP server's request for a user and password: Basic and Digest (RFC 2617, RFC 7616)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence

_ALGORITHMS = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}
"""Names of RFC 7616, each also with ``-sess``, and what hashlib calls them."""
_SESSION = "-sess"
_MAX_CHALLENGE = 8192
_MAX_OFFERS = 8
# One parameter, or the name of a scheme. Anchored where the last one ended, so it reads each character once.
_GAP = re.compile(r"[\s,]*")
_ITEM = re.compile(
    r"(?:(?P<key>\w[\w.-]*)\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<plain>[^\s,\"]*))"
    r"|(?P<scheme>\w[\w.-]*))",
    re.DOTALL,
)


class Login:
    """A user and password that answer the challenges of one connection. Its ``repr`` shows neither."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._basic = False
        self._digest: dict[str, str] = {}
        self._count = 0
        self._own = ""
        self._never_basic = False

    def challenge(self, offers: Sequence[str]) -> bool:
        """Take the values of a server's ``WWW-Authenticate`` headers; Digest is preferred.

        Returns False if none can be answered. Once Digest was answered, a later offer of Basic alone is
        refused: somebody between us and the server asks for the password in clear.
        """
        self._basic = False
        self._digest = {}
        self._count = 0
        for scheme, fields in (pair for offer in offers[:_MAX_OFFERS] for pair in split_challenges(offer)):
            if scheme == "basic":
                self._basic = not self._never_basic
            elif scheme == "digest" and not self._digest and _can_answer(fields):
                self._digest = fields
        # The same for all requests of a challenge: with -sess the secret is made of it once.
        self._own = secrets.token_hex(8)
        self._never_basic = self._never_basic or bool(self._digest)
        return self._basic or bool(self._digest)

    @property
    def stale(self) -> bool:
        """Whether the last challenge says that only its nonce has changed, and the password was right."""
        return self._digest.get("stale", "").lower() == "true"

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
        algorithm = given.get("algorithm", "MD5").lower()
        digest = _hash(algorithm.removesuffix(_SESSION))
        realm, nonce, own = given.get("realm", ""), given["nonce"], self._own
        secret = digest(self._user, realm, self._password)
        if algorithm.endswith(_SESSION):
            secret = digest(secret, nonce, own)
        action = digest(method, url)
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": url}
        extra = ""
        qop = _protection(given)
        if qop:
            if qop == "auth-int":
                action = digest(method, url, digest(""))  # our requests have no body
            self._count += 1
            count = f"{self._count:08x}"
            fields["response"] = digest(secret, nonce, count, own, qop, action)
            extra = f", qop={qop}, nc={count}"
        else:
            fields["response"] = digest(secret, nonce, action)
        if qop or algorithm.endswith(_SESSION):
            fields["cnonce"] = own
        if "opaque" in given:
            fields["opaque"] = given["opaque"]
        if "algorithm" in given:
            extra += f", algorithm={given['algorithm']}"
        text = ", ".join(f'{key}="{_escaped(key, value)}"' for key, value in fields.items())
        return f"Digest {text}{extra}"


def split_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """Scheme and parameters, both in lower case, of every challenge in one ``WWW-Authenticate`` value.

    Some servers send Digest and Basic as two headers, others as one with a comma between. Quoted values keep
    their escapes. Nothing after the first 8 KiB is read.
    """
    found: list[tuple[str, dict[str, str]]] = []
    header, place = header[:_MAX_CHALLENGE], 0
    while place < len(header):
        gap = _GAP.match(header, place)
        place = place if gap is None else gap.end()
        item = _ITEM.match(header, place)
        if item is None:
            place += 1  # an odd character, such as a quote that nothing closes
            continue
        place = item.end()
        if item["scheme"] is not None:
            found.append((item["scheme"].lower(), {}))
        elif found:
            value = item["plain"] if item["quoted"] is None else item["quoted"]
            found[-1][1].setdefault(item["key"].lower(), value)
    return found


def _can_answer(fields: dict[str, str]) -> bool:
    known = fields.get("algorithm", "MD5").lower().removesuffix(_SESSION) in _ALGORITHMS
    return known and "nonce" in fields and _protection(fields) is not None


def _protection(fields: dict[str, str]) -> str | None:
    """What the digest is to cover, of what a challenge offers: empty as in RFC 2069, None for nothing known.

    Some cameras offer an empty list.
    """
    offered = re.split(r"[\s,]+", fields.get("qop", "").strip().lower())
    return next((found for found in ("auth", "auth-int", "") if found in offered), None)


def _hash(algorithm: str) -> Callable[..., str]:
    def digest(*parts: str) -> str:
        return hashlib.new(_ALGORITHMS[algorithm], ":".join(parts).encode()).hexdigest()

    return digest


def _escaped(key: str, value: str) -> str:
    # Realm, nonce and opaque go back as they came, with the escapes that they had.
    return value.replace("\\", "\\\\").replace('"', '\\"') if key == "username" else value
