"""The container of ``Containerfile``: built by buildah, run as a plain user with a root that is read-only.

Building needs root, buildah, unshare, and a base image: the one that the file names if a registry can be
reached, else a Debian by debootstrap. ``STREAMSEG_CONTAINER_BASE`` names a folder with the root of a Debian
instead. Without these the test is skipped. It takes minutes, because hundreds of megabytes are unpacked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "Containerfile"
PIP, CERTIFICATES = Path("/etc/pip.conf"), Path("/etc/ssl/certs")
Buildah = Callable[..., str]


def settings(file: Path, word: str) -> list[str]:
    """The values of an instruction."""
    return re.findall(rf"^{word} (.+)$", file.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.nvidia"])
def test_containers_run_as_a_plain_user_and_copy_what_exists(name: str) -> None:
    file = ROOT / name
    assert settings(file, "USER") == ["10001:10001"]
    assert json.loads(settings(file, "ENTRYPOINT")[0]) == ["streamseg"]
    (command,) = map(json.loads, settings(file, "CMD"))
    assert command[:2] == ["live", "phantom:"]
    for line in settings(file, "COPY"):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)


def test_the_one_for_nvidia_says_that_it_is_untested() -> None:
    assert "UNTESTED" in (ROOT / "Containerfile.nvidia").read_text().splitlines()[0]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    """Calls buildah with a store of the test's own; skips where it cannot work."""
    if not (shutil.which("buildah") and shutil.which("unshare") and os.geteuid() == 0):
        pytest.skip("building a container needs root, buildah and unshare")
    store = tmp_path_factory.mktemp("store")

    def call(*arguments: object) -> str:
        places = ["--root", store / "root", "--runroot", store / "run", "--storage-driver", "vfs"]
        done = subprocess.run(
            ["buildah", *map(str, [*places, *arguments])], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    return call


@pytest.fixture(scope="module")
def base(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with Debian and Python."""
    folder = os.environ.get("STREAMSEG_CONTAINER_BASE")
    if not folder:
        named = FILE.read_text().split("ARG BASE=")[1].split()[0]
        try:
            buildah("pull", "--retry", "0", named)
        except AssertionError:
            folder = debian(tmp_path_factory.mktemp("debian"))
        else:
            return named
    container = buildah("from", "scratch")
    buildah("add", container, folder, "/")
    buildah("commit", container, "localhost/base")
    buildah("rm", container)
    return "localhost/base"


def debian(folder: Path) -> str:
    """The root of a Debian with Python, from the package index."""
    if not shutil.which("debootstrap"):
        pytest.skip("no registry answers, and debootstrap is not installed")
    command = [
        "debootstrap",
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        "bookworm",
    ]
    done = subprocess.run(
        [*command, str(folder), "http://deb.debian.org/debian"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"debootstrap: {done.stdout[-200:]}")
    return str(folder)


@pytest.fixture(scope="module")
def root(buildah: Buildah, base: str) -> Iterator[Path]:
    """The folder that is the container's root."""
    mounts = [("-v", f"{path}:{path}:ro") for path in (PIP, CERTIFICATES) if path.exists()]
    options = [word for mount in mounts for word in mount]
    buildah(
        *("bud", "--isolation", "chroot", "--network", "host", *options),
        *("--build-arg", f"BASE={base}", "-t", "localhost/streamseg", "-f", FILE, ROOT),
    )
    container = buildah("from", "--pull-never", "localhost/streamseg")
    yield Path(buildah("mount", container))
    buildah("umount", container)
    buildah("rm", container)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_page_is_served_by_a_plain_user_with_a_root_that_is_read_only(root: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = dict(
        pair.split("=", 1) for pair in re.findall(r"(?:ENV|^   ) (\w+=\S+)", FILE.read_text(), re.M)
    )
    values = " ".join(f"{name}={value.replace('$PATH', '/usr/bin:/bin')}" for name, value in places.items())
    live = f"streamseg live phantom: --display web --host 0.0.0.0 --port {port} --seconds 300"
    script = f"""
mount --bind {root} {root} && mount -o remount,ro,bind {root} && mount -t tmpfs tmpfs {root}/tmp
mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && mount --rbind /sys {root}/sys
exec chroot --userspec=10001:10001 {root} /usr/bin/env -i {values} \\
  sh -c 'cd /tmp; id -u; touch /opt/x; exec {live}'
"""
    said = tmp_path / "said"
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", script], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        token = wait_for(lambda: re.search(r"\?token=(\S+)", said.read_text()), "its address", 300)[1]
        address = f"http://127.0.0.1:{port}/healthz"
        asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        wait_for(lambda: json.loads(answer(asked)).get("seconds_since_frame") is not None, "a frame")
    finally:
        process.terminate()
        process.wait(60)
    lines = said.read_text().splitlines()
    assert lines[0] == "10001"
    assert "Read-only file system" in lines[1]


def answer(request: urllib.request.Request) -> bytes:
    """The body, also of an answer that says that the run is not well: its net may lag."""
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        return error.read()
