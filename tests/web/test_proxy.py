"""The page through a real reverse proxy, with TLS and below a path, as hospitals serve it."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from streamseg.core.errors import UsageError
from streamseg.web import WebDisplay
from streamseg.web.access import PublicUrl
from tests.waiting import PATIENCE_S
from tests.web.browsing import opened, until, until_outline, unusual
from tests.web.feeding import Feed, Reader, get, serving

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
TOKEN = "a-token-for-tests"
HOST = "guide.localhost"
"""Chromium resolves it to 127.0.0.1, as every name below localhost."""
needs_nginx = pytest.mark.skipif(
    not (Path(NGINX).exists() and shutil.which("openssl")), reason="no nginx here; install nginx-light"
)

CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log {folder}/errors;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {host};
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location {path} {{
      proxy_pass http://127.0.0.1:{target}{strip};
      proxy_http_version 1.1;
      {headers}
    }}
  }}
}}
"""
UPGRADE = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
PASSED = "proxy_set_header Host $http_host;"
WITHOUT_PORT = "proxy_set_header Host $host;"
REWRITTEN = ""
FORWARDED = (
    "proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto https;"
    "proxy_set_header X-Forwarded-For $remote_addr;"
)
SETUPS = {
    "Host passed through": ("/", "/", PASSED),
    "Host without its port": ("/", "", WITHOUT_PORT),
    "Host rewritten": ("/", "/", REWRITTEN),
    "X-Forwarded": ("/", "/", FORWARDED),
    "below a path": ("/us/", "/", REWRITTEN),
    "below a path, forwarded": ("/us/", "/", FORWARDED),
    "below a path that is passed on": ("/a/us/", "", PASSED),
}
"""Path, what is put in its place (nothing: it is passed on), and headers."""
USUAL = ("Host passed through", "Host rewritten", "X-Forwarded", "below a path")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    make = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST}"
    command = ["openssl", *make.split(), "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def proxied(
    folder: Path,
    certificate: tuple[Path, Path],
    setup: tuple[str, str, str],
    *,
    upgrade: str = UPGRADE,
    public: bool = True,
    **options: object,
) -> Iterator[tuple[WebDisplay, str]]:
    """A display after nginx, and the proxy's address of it."""
    path, strip, headers = setup
    port = free_port()
    address = f"https://{HOST}:{port}{path}"
    if public:
        options = {"public_url": address, **options}
    with serving(**options) as display:
        text = CONFIGURATION.format(
            folder=folder,
            port=port,
            host=HOST,
            path=path,
            strip=strip,
            target=display.port,
            headers=f"{headers} {upgrade}",
            certificate=certificate[0],
            key=certificate[1],
        )
        (folder / "nginx.conf").write_text(text)
        command = [NGINX, "-p", str(folder), "-e", str(folder / "errors"), "-c", str(folder / "nginx.conf")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for_port(port, process)
                yield display, address
            finally:
                process.terminate()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)


def through(url: str, **headers: str) -> tuple[int, str]:
    """Status and text of what the proxy answers."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", parts.port, timeout=30, context=context)
    try:
        connection.request("GET", parts.path, headers={"Host": parts.netloc, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@needs_nginx
@pytest.mark.parametrize(
    "name", [*USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in SETUPS if name not in USUAL)]
)
def test_the_page_through_a_proxy(browser, tmp_path, certificate, name) -> None:
    with proxied(tmp_path, certificate, SETUPS[name], token=TOKEN) as (display, address), Feed(display):
        assert display.url == f"{address}?token={TOKEN}"
        complaints: list[str] = []
        with opened(browser, display.url, complaints=complaints, ignore_https_errors=True) as page:
            until_outline(page)
            assert page.url == address
            assert page.evaluate("getComputedStyle(document.querySelector('main')).display") == "grid"
            page.reload()
            until_outline(page)
            (cookie,) = page.context.cookies()
            if name in ("Host passed through", "X-Forwarded", "below a path, forwarded"):
                assert (cookie["path"], cookie["secure"]) == (SETUPS[name][0], True)
        assert unusual(complaints) == []


@needs_nginx
def test_a_foreign_page_gets_nothing_through_the_proxy(tmp_path, certificate) -> None:
    setup = SETUPS["X-Forwarded"]
    with proxied(tmp_path, certificate, setup, token=TOKEN) as (display, address):
        assert through(address)[0] == 401
        granted = {"Authorization": f"Bearer {TOKEN}"}
        assert through(address, **granted)[0] == 200
        status, text = through(f"{address}healthz", Origin="https://evil.example", **granted)
        assert status == 403
        assert f"--public-url {'https://evil.example'}/" in text  # it names what it received
        for origin in ("https://evil.example", address.replace("https", "http"), f"https://{HOST}", "null"):
            headers = {**granted, "X-Forwarded-Host": "evil.example"}
            with (
                pytest.raises(InvalidStatus, match="403"),
                Reader(display.port, origin=origin.rstrip("/"), additional_headers=headers),
            ):
                pass


@needs_nginx
def test_without_a_public_address_the_page_says_what_is_missing(browser, tmp_path, certificate) -> None:
    options = {"public": False}
    with (
        proxied(tmp_path, certificate, SETUPS["Host rewritten"], **options) as (_, address),
        opened(browser, address, ignore_https_errors=True) as page,
    ):
        until(page, "document.getElementById('reason').textContent.includes('--public-url')")
        assert f"--public-url {address}" in page.text_content("#reason")
    with proxied(tmp_path, certificate, SETUPS["Host passed through"], **options) as (_, address):
        status, text = through(address)
        assert status == 421
        assert f"--public-url https://{HOST}/" in text


@needs_nginx
def test_a_proxy_without_websockets_is_named_on_the_page(browser, tmp_path, certificate) -> None:
    with (
        proxied(tmp_path, certificate, SETUPS["Host rewritten"], token=TOKEN, upgrade="") as (display, _),
        opened(browser, display.url, ignore_https_errors=True) as page,
    ):
        until(page, "document.getElementById('reason').textContent.includes('Upgrade')")


@needs_nginx
def test_a_proxy_without_a_server_is_named_on_the_page(browser, tmp_path, certificate) -> None:
    with (
        proxied(tmp_path, certificate, SETUPS["Host rewritten"], token=TOKEN) as (display, _),
        Feed(display) as feed,
        opened(browser, display.url, ignore_https_errors=True) as page,
    ):
        until_outline(page)
        feed.paused = True
        display.close()
        until(page, "document.getElementById('reason').textContent.includes('502')")


def test_the_public_page_needs_a_token() -> None:
    with serving(public_url="https://guide.example/us") as display:
        token = display.url.partition("?token=")[2]
        assert display.url.startswith("https://guide.example/us/?token=")
        assert len(token) >= 32
        assert get(display, "/")[0] == get(display, "/us/", Host="guide.example")[0] == 401
        assert get(display, "/", Host="evil.example")[0] == 421
        assert get(display, f"/us/?token={token}", Host="guide.example")[0] == 200
        status, headers, _ = get(display, "/us", Host="guide.example")
        assert (status, headers["location"]) == (307, "/us/")
        _, headers, _ = get(display, f"/?token={token}")
        assert "Path=/;" in headers["set-cookie"], "opened without the proxy"
    with serving(public_url="https://localhost:8443/") as display:
        assert display.url == "https://localhost:8443/"
        assert get(display, "/")[0] == 200


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://guide.example", "https://guide.example", "/"),
        ("https://GUIDE.example:443/", "https://guide.example", "/"),
        ("http://guide.example:8443/a/b", "http://guide.example:8443", "/a/b/"),
        ("https://[fd00::1]:444/us//", "https://[fd00::1]:444", "/us/"),
    ],
)
def test_public_addresses(url: str, origin: str, path: str) -> None:
    assert PublicUrl.parse(url) == PublicUrl(origin, path)
    assert PublicUrl.parse(url).url == origin + path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "guide.example",
        "ftp://guide.example/",
        "https://",
        "https:///us/",
        "https://me:s3cret@guide.example/",
        "https://guide.example/?token=s3cret",
        "https://guide.example/#us",
        "https://guide.example:70000/",
        "https://guide.example:x/",
        "https://guide.example/us us/",
        "https://guide.example/\r\nSet-Cookie: a",
        "https://[::1/",
        "https://guide.example/" + "u" * 10_000,
    ],
)
def test_invalid_public_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="the public address is not one of a web page") as raised:
        WebDisplay(port=0, public_url=url)
    assert "s3cret" not in str(raised.value)
