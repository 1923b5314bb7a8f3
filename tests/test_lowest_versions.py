"""The lowest versions that pyproject.toml allows are ones that work: intact files play, the page answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.capture.dicoms import encoded

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def lowest() -> list[str]:
    """Every base dependency at its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.sub(r">=([^,\s]+).*", r"==\1", requirement) for requirement in project["dependencies"]]


def test_every_base_dependency_has_a_lower_bound() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) for pin in lowest())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs streamseg's command line, from this tree, with the lowest versions."""
    home = tmp_path_factory.mktemp("lowest")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--only-binary=:all:", *lowest()],
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if "from versions: none" in installed.stderr or "ConnectionError" in installed.stderr:
        pytest.skip("no package index can be reached")
    assert installed.returncode == 0, installed.stderr
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STREAMSEG_ENGINES": str(home / "engines")}

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "streamseg", *map(str, arguments)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=120, env=environment, cwd=home
        )
        assert done.returncode == 0, done.stderr
        return done

    call.start = lambda *arguments: subprocess.Popen(  # type: ignore[attr-defined]
        [str(python), "-m", "streamseg", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=home,
    )
    return call


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="wheels of the lowest versions are looked for on Linux")
def test_the_lowest_versions_play_what_they_write(run: Run, tmp_path: Path) -> None:
    """With av 14 to 17.0 no intact file was a video, and pydicom 3.0.0 downloads when it is imported."""
    clip, records, table = (tmp_path / name for name in ("a.mp4", "a.jsonl", "a.csv"))
    run(
        *("replay", "phantom:?frames=10&size=320x240", "--out", clip),
        *("--records", records, "--records", table),
    )
    assert len(records.read_text().splitlines()) == 11
    assert len(table.read_text().splitlines()) == 11
    files = [clip, *(encoded(kind, 3, tmp_path / f"{kind}.dcm") for kind in ("jpeg", "jpeg 2000", "rle"))]
    for path, frames in zip(files, (10, 3, 3, 3), strict=True):
        assert json.loads(run("replay", path, "--json").stdout)["frames"] == frames, path
    run("phantom", "--out", tmp_path / "k", "--images", 4, "--subjects", 2)
    assert json.loads(run("evaluate", tmp_path / "k", "--json").stdout)["images"] == 4
    assert json.loads(run("check", tmp_path / "k", "--json").stdout)["subjects"] == 2
    run("doctor")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="wheels of the lowest versions are looked for on Linux")
def test_the_lowest_versions_serve_the_page(run: Run) -> None:
    arguments = ("phantom:?size=320x240", "--display", "web", "--port", 0, "--seconds", 8)
    live = run.start("live", *arguments)  # type: ignore[attr-defined]
    try:
        found = next(match for line in live.stderr if (match := re.search(r"http://[^/\s]+", line)))
        for path in ("/healthz", "/"):
            with urllib.request.urlopen(found[0] + path, timeout=10) as answer:
                assert answer.status == 200
        live.stderr.read()
        assert live.wait(30) == 0
    finally:
        live.kill()
        live.wait()
        live.stderr.close()
