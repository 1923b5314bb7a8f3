"""Logins, checked against the examples of the standards."""

from __future__ import annotations

import hashlib
import re
import secrets
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.auth import Login, split_challenges


def fixed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: value)


def test_basic_as_in_rfc_2617() -> None:
    login = Login("Aladdin", "open sesame")
    assert login.header("OPTIONS", "rtsp://host/") is None
    assert login.challenge(['Basic realm="WallyWorld"'])
    assert login.header("OPTIONS", "rtsp://host/") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_digest_as_in_rfc_2617(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, "0a4f113b")
    login = Login("Mufasa", "Circle Of Life")
    assert login.challenge(
        [
            'Digest realm="testrealm@host.com", qop="auth,auth-int", '
            'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
        ]
    )
    header = login.header("GET", "/dir/index.html")
    assert header is not None
    assert 'response="6629fae49393a05397450978507c4ef1"' in header
    assert 'opaque="5ccc069c403ebaf9f0171e9517f40e41"' in header
    assert "nc=00000001" in header
    assert "nc=00000002" in (login.header("GET", "/dir/index.html") or "")


def test_digest_with_sha_256_as_in_rfc_7616(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    login = Login("Mufasa", "Circle of Life")
    assert login.challenge(
        [
            'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        ]
    )
    header = login.header("GET", "/dir/index.html") or ""
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in header


def test_digest_is_preferred_and_what_is_unknown_is_left() -> None:
    login = Login("me", "hush")
    assert login.challenge(['Basic realm="x"', 'Digest realm="x", nonce="1"'])
    assert (login.header("PLAY", "rtsp://host/") or "").startswith("Digest ")
    assert not login.challenge(["Negotiate", 'Digest realm="x", nonce="1", algorithm=MD5-other'])
    assert login.header("PLAY", "rtsp://host/") is None
    assert "hush" not in repr(login)


@given(st.text(max_size=200))
def test_no_challenge_breaks_the_login(offer: str) -> None:
    for kind in ("Digest ", "Basic ", ""):
        login = Login("me", "hush")
        login.challenge([kind + offer])
        header = login.header("PLAY", "rtsp://host/")
        assert header is None or "hush" not in header


def test_basic_after_digest_would_give_the_password_away() -> None:
    login = Login("me", "hush")
    assert login.challenge(['Digest realm="x", nonce="1"'])
    assert not login.challenge(['Basic realm="x"'])
    assert login.header("PLAY", "rtsp://host/") is None
    assert login.challenge(['Basic realm="x"', 'Digest realm="x", nonce="2"'])
    assert (login.header("PLAY", "rtsp://host/") or "").startswith("Digest ")


def test_several_challenges_in_one_header_are_split() -> None:
    header = 'Digest realm="a, b=\\"c\\"", nonce="1" , qop="auth,auth-int", Basic realm="x", Negotiate'
    assert split_challenges(header) == [
        ("digest", {"realm": 'a, b=\\"c\\"', "nonce": "1", "qop": "auth,auth-int"}),
        ("basic", {"realm": "x"}),
        ("negotiate", {}),
    ]


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5-sess", "md5"),
        ("SHA-256-sess", "sha256"),
        ("SHA-512-256", "sha512_256"),
        ("SHA-512-256-sess", "sha512_256"),
    ],
)
@pytest.mark.parametrize("qop", ['qop="auth", ', ""])
def test_other_algorithms_as_the_rfc_spells_them_out(algorithm: str, response: str, qop: str) -> None:
    def h(text: str) -> str:
        return hashlib.new(response, text.encode()).hexdigest()

    login = Login("me", "hush")
    assert login.challenge([f'Digest realm="r", nonce="n", {qop}algorithm={algorithm}'])
    for count in (1, 2):
        header = login.header("PLAY", "rtsp://h/") or ""
        sent = dict(re.findall(r'(\w+)="?([^",]*)"?', header))
        secret = h("me:r:hush")
        if algorithm.endswith("-sess"):
            secret = h(f"{secret}:n:{sent['cnonce']}")
        middle = f"n:{count:08x}:{sent['cnonce']}:auth" if qop else "n"
        assert sent["response"] == h(f"{secret}:{middle}:{h('PLAY:rtsp://h/')}")


@pytest.mark.parametrize(
    "text",
    [
        "," * 10**6,
        " " * 10**6,
        "a " * 500_000,
        "a" * 10**6,
        'k="' * 300_000,
        '\\"' * 500_000,
        "a=" * 500_000,
        "\0" * 10**6,
    ],
)
def test_a_long_challenge_holds_nobody_up(text: str) -> None:
    began = time.process_time()
    Login("me", "hush").challenge(["Digest " + text, text, *[text[:60]] * 15_000])
    assert time.process_time() - began < 0.5  # milliseconds; it was half a minute


def test_a_digest_that_covers_the_body_is_answered() -> None:
    """Some servers offer auth-int alone; our requests have no body."""

    def h(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    login = Login("me", "hush")
    assert login.challenge(['Digest realm="r", nonce="n", qop="auth-int"'])
    sent = dict(re.findall(r'(\w+)="?([^",]*)"?', login.header("PLAY", "rtsp://h/") or ""))
    assert sent["qop"] == "auth-int"
    action = h(f"PLAY:rtsp://h/:{h('')}")
    assert sent["response"] == h(f"{h('me:r:hush')}:n:00000001:{sent['cnonce']}:auth-int:{action}")


def test_an_empty_list_of_protections_is_none() -> None:
    """Some cameras send it."""
    login = Login("me", "hush")
    assert login.challenge(['Digest realm="r", nonce="n", qop=""'])
    assert "qop" not in (login.header("PLAY", "rtsp://h/") or "")
