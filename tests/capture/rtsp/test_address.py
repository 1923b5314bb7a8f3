"""Passwords in addresses reach the server and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.address import RtspAddress, masked, without_credentials
from streamseg.core.errors import UsageError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://host/live", "rtsp://host/live"),
        ("rtsp://user:hush@host:8554/live", "rtsp://host:8554/live"),
        ("RTSPS://user@host/live", "RTSPS://host/live"),
        ("rtsp://user:hu@sh/hush@host/live", "rtsp://host/live"),
        ("rtsp://user:two words@host/live", "rtsp://host/live"),
        (
            "rtsp://host/live?user=me&password=hush&channel=1",
            "rtsp://host/live?user=***&password=***&channel=1",
        ),
        ("rtsp://host/user=me_password=hush_channel=1.sdp", "rtsp://host/user=***"),
        ("rtsp://host/live?access_token=hush", "rtsp://host/live?access_token=***"),
        ("cannot open 'rtsp://u:hush@host/x': gone", "cannot open 'rtsp://host/x': gone"),
        ("first http://u:hush@a/ then rtsp://v:hush@b/", "first http://a/ then rtsp://b/"),
        ("v4l2:/dev/video0", "v4l2:/dev/video0"),
        ("phantom:?seed=3&frames=200", "phantom:?seed=3&frames=200"),
    ],
)
def test_what_people_see(address: str, shown: str) -> None:
    assert masked(address) == shown


def test_masking_long_text_is_quick() -> None:
    assert len(masked("user" * 3000)) == 12000
    assert masked("a" * 20000 + "pass=x").endswith("pass=***")


def test_login_is_kept_apart_for_profiles() -> None:
    assert without_credentials("rtsp://u:p@host/live?x=1") == "rtsp://host/live?x=1"


def test_address_is_taken_apart() -> None:
    address = RtspAddress.parse("rtsp://me:p%40ss%2Fw%3Ard@Machine:8554/live?channel=1")
    assert (address.user, address.password) == ("me", "p@ss/w:rd")
    assert (address.host, address.port, address.tls) == ("Machine", 8554, False)
    assert address.url == "rtsp://Machine:8554/live?channel=1"
    assert address.label == "rtsp://Machine:8554/live"
    assert address.name == "Machine-8554-live"
    assert "w:rd" not in repr(address)


def test_what_is_left_out_has_a_default() -> None:
    assert RtspAddress.parse("rtsp://host").url == "rtsp://host:554/"
    assert RtspAddress.parse("rtsps://host/a b".replace(" ", "é")).url == "rtsps://host:322/a%C3%A9b"
    v6 = RtspAddress.parse("rtsp://[::1]:8554/live")
    assert (v6.host, v6.url) == ("::1", "rtsp://[::1]:8554/live")


def test_login_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RtspAddress.parse("rtsp://host/").user is None
    monkeypatch.setenv("STREAMSEG_RTSP_USER", "me")
    monkeypatch.setenv("STREAMSEG_RTSP_PASSWORD", "hush%41")
    assert RtspAddress.parse("rtsp://host/").password == "hush%41"
    assert RtspAddress.parse("rtsp://you:other@host/").password == "other"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://",
        "rtsp:///live",
        "http://host/hush",
        "rtsp://host:99999999/hush",
        "rtsp://host:0/hush",
        "rtsp://me:1234/hush@host/live",
        "rtsp://me:hu sh@host/live",
        "rtsp://host/hush\r\nInjected: yes",
        "rtsp://me:hush@ho@st:x/",
    ],
)
def test_wrong_addresses_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        RtspAddress.parse(address)
    assert "hush" not in str(caught.value)
    assert "hu sh" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = RtspAddress.parse(f"rtsp://{text}")
    except UsageError:
        return
    assert address.url.isascii() or not address.host.isascii()
    assert not set(address.url) & set("\r\n ")


@given(st.text(min_size=1, max_size=20, alphabet="abcXYZ019!$%&/?=@:#. é"))
def test_a_password_is_never_shown(password: str) -> None:
    from urllib.parse import quote

    secret = f"Q{password}Q"
    encoded = f"rtsp://me:{quote(secret, safe='')}@host/live"
    address = RtspAddress.parse(encoded)
    assert address.password == secret
    for shown in (masked(encoded), masked(f"rtsp://me:{secret}@host/live"), address.label, address.name):
        assert secret not in shown
    assert masked(encoded) == "rtsp://host/live"


@pytest.mark.parametrize("zone", ["%25eth0", "%eth0"])
def test_the_zone_of_a_link_local_address_stays_here(zone: str) -> None:
    """RFC 6874 writes it with %25, people without; it means nothing to the server."""
    address = RtspAddress.parse(f"rtsp://[fe80::1{zone}]:8554/live")
    assert address.host == "fe80::1%eth0"
    assert address.url == "rtsp://[fe80::1]:8554/live"
    assert address.place == "[fe80::1%eth0]:8554"
    assert address.redirected("/other").host == "fe80::1%eth0"
