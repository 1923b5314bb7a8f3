"""The documentation names what exists: commands, options, public names, files. ``make docs`` builds it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import streamseg
from streamseg.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
GUIDES = [ROOT / "README.md", *(page for page in PAGES if page.name != "log.md")]
OTHER_PROGRAMS = {
    "--head",
    "--address",
    "--num-cpus",
    "--include-dashboard",
    "--machines",
    "--nproc-per-node",
    "--labels",
    "--flags",
    "--nodata",
    "--autosave",
    "--read-only",
    "--tmpfs",
}
"""Options in examples that are not ours."""


def load(path: Path) -> ModuleType:
    """A module of the documentation, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> dict[str, Any]:
    """Every command by its whole name."""
    found: dict[str, Any] = {}
    queue = [("streamseg", typer.main.get_command(app))]
    while queue:
        name, command = queue.pop()
        found[name] = command
        queue += [(f"{name} {key}", below) for key, below in getattr(command, "commands", {}).items()]
    return found


def options() -> set[str]:
    """The long options of all commands."""
    parts = [part for command in commands().values() for part in command.params]
    names = [name for part in parts for name in (*part.opts, *part.secondary_opts)]
    return {"--help", *(name for name in names if name.startswith("--"))}


def test_the_reference_holds_every_command_and_option() -> None:
    text = load(DOCS / "_ext" / "command_reference.py").commands_markdown()
    for name, command in commands().items():
        assert f"```{{program}} {name}\n" in text
        own = text.split(f"```{{program}} {name}\n```\n")[1].partition("```{program}")[0]
        for part in command.params:
            for option in (*part.opts, *part.secondary_opts):
                assert not option.startswith("--") or option in own, f"{name} {option}"
    assert "## streamseg live\n" in text
    assert "### streamseg bench nets\n" in text
    assert "````{option} --age-budget MS\n" in text
    assert "Research software, not a medical device" in text
    assert "<!-- commands -->" in (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_options_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w-])", text))
    assert named - options() - OTHER_PROGRAMS == set()


def test_the_proofs_of_the_guards_are_tests_that_exist() -> None:
    text = (DOCS / "responsibility.md").read_text(encoding="utf-8")
    proofs = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(proofs) > 25
    for file, name in proofs:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_public_name_is_in_the_python_interface() -> None:
    text = (DOCS / "reference" / "api.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. (?:auto|py:)\w+:: streamseg\.(\w+)$", text, re.MULTILINE))
    assert named == set(streamseg.__all__)


def test_every_guide_says_what_streamseg_is_not() -> None:
    for page in ("README.md", "docs/index.md", "docs/start.md", "docs/guide/live.md", "docs/safety.md"):
        assert "not a medical device" in (ROOT / page).read_text(encoding="utf-8")[:1000]
    assert "not a medical device" in (DOCS / "conf.py").read_text(encoding="utf-8")


def test_the_picture_is_what_its_script_draws() -> None:
    script = load(DOCS / "draw_frame_path.py")
    assert script.PICTURE.read_text(encoding="utf-8") == script.draw()
