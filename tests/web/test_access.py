"""Who may see the page: tokens, hosts and origins, over real connections."""

import re
import socket

import pytest
from websockets.exceptions import InvalidStatus

from streamseg.core.errors import UsageError
from streamseg.web import WebDisplay
from streamseg.web.server import FILES
from tests.web.feeding import Reader, get, serving

TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def local():
    with serving() as display:
        yield display


@pytest.fixture(scope="module")
def guarded():
    with serving(host="0.0.0.0", token=TOKEN) as display:
        yield display


def test_every_file_of_the_page_is_served_and_nothing_else(local):
    for name, kind in FILES.items():
        status, headers, text = get(local, "/" if name == "index.html" else f"/{name}")
        assert (status, headers["content-type"]) == (200, kind)
        assert text
    for path in (
        "/index.html",
        "/page",
        "/page/",
        "/../web/access.py",
        "/%2e%2e/access.py",
        "/access.py",
        "//etc/passwd",
    ):
        assert get(local, path)[0] == 404


def test_security_headers(local):
    _, headers, _ = get(local, "/")
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_the_page_loads_nothing_from_other_hosts():
    from importlib import resources

    for name in FILES:
        text = resources.files("streamseg.web").joinpath("page", name).read_text()
        outside = set(re.findall(r"https?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, name


def test_only_get_is_allowed(local):
    for method in ("POST", "PUT", "DELETE"):
        assert get(local, "/", method=method, body="x")[0] == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "192.168.1.7", "", "[", "127.0.0.1.evil.example"]
)
def test_foreign_names_for_this_machine_are_refused(local, host):
    status, _, text = get(local, "/", Host=host)
    assert status in (400, 421)
    assert "<html" not in text


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:9", "LOCALHOST", "127.0.0.2:80"])
def test_names_of_this_machine_are_accepted(local, host):
    assert get(local, "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "http://["]
)
def test_pages_of_another_origin_get_no_socket(local, origin):
    with pytest.raises(InvalidStatus, match="403"), Reader(local.port, origin=origin):
        pass


def test_programs_without_an_origin_get_a_socket(local):
    with Reader(local.port, origin=None) as reader:
        reader.read()
        assert reader.texts[0]["hello"]


def test_other_addresses_need_a_token(guarded):
    for path in ("/", "/page.js", "/healthz", "/metrics", "/?token=wrong-token-here", "/?token=", "/nothing"):
        status, headers, text = get(guarded, path)
        assert status == 401
        assert "set-cookie" not in headers
        assert TOKEN not in text
    with pytest.raises(InvalidStatus, match="403"), Reader(guarded.port):
        pass


def test_token_becomes_a_cookie(guarded):
    status, headers, _ = get(guarded, f"/?token={TOKEN}")
    assert status == 200
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    pair = cookie.partition(";")[0]
    assert get(guarded, "/page.js", Cookie=pair)[0] == 200
    assert "set-cookie" not in get(guarded, "/page.js", Cookie=pair)[1]
    with Reader(guarded.port, additional_headers={"Cookie": pair}) as reader:
        reader.read()
    name = pair.partition("=")[0]
    for wrong in (f"{name}=0", f"{name}={TOKEN}", "other=1", ";;;=", f"{name}=\xe4"):
        assert get(guarded, "/page.js", Cookie=wrong)[0] == 401


@pytest.mark.parametrize(
    "foreign",
    [
        "novalue",
        "a/b=1",
        "user@host=1",
        "theme=dark blue",
        "=nameless",
        'q="open',
        'json={"a": [1, 2]}',
        "caf\xe9=1",
        ";;;=",
        "x=" + "y" * 4000,
        "streamseg_1=0",
        "NAME=of another program on this port",
    ],
)
def test_cookies_of_other_programs_do_not_matter(guarded, foreign):
    pair = get(guarded, f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    foreign = foreign.replace("NAME", pair.partition("=")[0])
    for cookies in (f"{foreign}; {pair}", f"{pair}; {foreign}", f"{foreign};{pair};{foreign}"):
        assert get(guarded, "/page.js", Cookie=cookies)[0] == 200
        with Reader(guarded.port, additional_headers={"Cookie": cookies}) as reader:
            reader.read()
    assert get(guarded, "/page.js", Cookie=foreign)[0] == 401


def test_token_in_the_address_opens_only_the_page(guarded):
    assert get(guarded, f"/metrics?token={TOKEN}")[0] == 401
    assert get(guarded, f"/?token={TOKEN}&token={TOKEN}")[0] == 401


def test_programs_give_the_token_in_a_header(guarded):
    assert get(guarded, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    for wrong in ("Bearer", f"Basic {TOKEN}", "Bearer wrong-token-here", "Bearer \xff"):
        assert get(guarded, "/metrics", Authorization=wrong)[0] == 401


def test_origin_is_checked_with_a_token_too(guarded):
    with (
        pytest.raises(InvalidStatus, match="403"),
        Reader(
            guarded.port,
            origin="http://evil.example",
            additional_headers={"Authorization": f"Bearer {TOKEN}"},
        ),
    ):
        pass


def test_a_token_is_generated_if_none_is_given():
    with serving(host="0.0.0.0") as first, serving(host="0.0.0.0") as second:
        tokens = [display.url.partition("?token=")[2] for display in (first, second)]
        assert all(len(token) >= 32 for token in tokens)
        assert tokens[0] != tokens[1]
        assert tokens[0] not in repr(first)
        assert get(first, f"/?token={tokens[0]}")[0] == 200
        assert get(first, f"/?token={tokens[1]}")[0] == 401


def test_a_given_token_is_required_on_loopback_too():
    with serving(token=TOKEN) as display:
        assert get(display, "/")[0] == 401
        assert get(display, f"/?token={TOKEN}")[0] == 200
        assert get(display, f"/?token={TOKEN}", Host="evil.example")[0] == 421


@pytest.mark.parametrize(
    "token", ["short", "", "with blank in it", "with&ampersand", "ümlaut-in-token", "x" * 201]
)
def test_weak_tokens_are_refused_without_being_shown(token):
    with pytest.raises(UsageError, match="give 12 to 200") as raised:
        WebDisplay(port=0, token=token)
    assert not token or token not in str(raised.value)


def test_token_never_reaches_a_log(caplog, capfd, guarded):
    caplog.set_level("DEBUG")
    get(guarded, f"/?token={TOKEN}")
    with Reader(guarded.port, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as reader:
        reader.read()
    texts = [
        record.getMessage() for record in caplog.records if record.name.startswith(("uvicorn", "streamseg"))
    ]
    out, err = capfd.readouterr()
    assert not any(TOKEN in text for text in [*texts, out, err])


def test_ipv6_loopback():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(host="::1") as display:
        assert display.url == f"http://[::1]:{display.port}/"
        with Reader(display.port, host="[::1]") as reader:
            reader.read()
