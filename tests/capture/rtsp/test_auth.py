"""Logins, checked against the examples of the standards."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.connection import Login


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
    assert not login.challenge(["Negotiate", 'Digest realm="x", nonce="1", algorithm=MD5-sess'])
    assert login.header("PLAY", "rtsp://host/") is None
    assert "hush" not in repr(login)


@given(st.text(max_size=200))
def test_no_challenge_breaks_the_login(offer: str) -> None:
    for kind in ("Digest ", "Basic ", ""):
        login = Login("me", "hush")
        login.challenge([kind + offer])
        header = login.header("PLAY", "rtsp://host/")
        assert header is None or "hush" not in header
