"""The files around the package agree with one another and keep the project's rules."""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import streamseg
from streamseg.cli import app

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_TESTED_HERE = {"tensorrt", "gpl-codecs", "archive-ray"}
"""Extras whose packages are not installed beside the others for the tests: large ones, and one of another
licence."""
MODULES = sorted((ROOT / "streamseg").rglob("*.py"))


def pins() -> dict[str, Version]:
    """Versions in constraints.txt by package."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def declared() -> Iterator[Requirement]:
    """Requirements of the package and of the extras that were tested."""
    yield from map(Requirement, PROJECT["dependencies"])
    for extra, requirements in PROJECT["optional-dependencies"].items():
        if extra not in NOT_TESTED_HERE:
            yield from map(Requirement, requirements)


@pytest.mark.parametrize("requirement", list(declared()), ids=str)
def test_every_dependency_is_pinned_to_a_version_that_fits(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    if name != "streamseg":
        assert pins()[name] in requirement.specifier


def test_pins_hold_what_dependencies_need_too() -> None:
    found: set[tuple[str, str]] = set()
    queue = [(r.name, extra) for r in declared() if r.name != "streamseg" for extra in ("", *r.extras)]
    while queue:
        name, extra = queue.pop()
        if (canonicalize_name(name), extra) in found:
            continue
        found.add((canonicalize_name(name), extra))
        for need in map(Requirement, metadata.requires(name) or ()):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                queue += [(need.name, asked) for asked in ("", *need.extras)]
    names = {name for name, _ in found}
    assert names <= pins().keys() | {"pip"}
    assert not pins().keys() - names


def test_no_pin_is_of_a_local_build() -> None:
    assert [str(version) for version in pins().values() if version.local] == []


def test_make_has_the_targets_that_the_documents_name() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("setup", "demo", "test", "check", "docs"):
        assert re.search(rf"^{target}:", rules, re.MULTILINE)


def test_ci_is_a_program_that_checks_tests_and_builds_the_documentation() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = set(script.read_text().splitlines())
    assert {"make check", "make test", "make docs", "set -euo pipefail"} <= lines


def test_the_first_screen_of_the_readme_says_what_to_type() -> None:
    screen = (ROOT / "README.md").read_text(encoding="utf-8")[:2500]
    for needed in ("make demo", "make test", "not a medical device", "docs/demo.png"):
        assert needed in screen
    assert (ROOT / "docs" / "demo.png").stat().st_size < 300_000


def test_the_readme_quotes_the_replication_as_it_was_measured() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "reproduce-kaggle-positives.json").read_bytes())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    quoted = readme.partition("**The paper's comparison**")[2].partition("reproduce-kaggle-positives.md")[0]
    dice = [f"{result['nets'][net]['dice']['mean']:.3f}" for net in ("unet", "segnet", "improved_unet")]
    folds = len(result["complete_folds"])
    assert f"{result['data']['images']:,} images" in quoted
    assert f"{folds} of {result['settings']['folds']} folds" in quoted
    assert [figure for figure in dice if figure not in quoted] == []


def test_the_readme_describes_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    assert [name for name in names if f"streamseg {name}" not in text] == []


def test_the_version_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "[Unreleased]" in text or f"[{streamseg.__version__}]" in text


def test_the_licence_is_the_one_declared() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_opencv_is_imported_before_pyav(module: Path) -> None:
    """In the other order OpenCV's windows hang for good."""
    names = [
        name.split(".")[0]
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    if "av" in names:
        assert "cv2" in names[: names.index("av")]
