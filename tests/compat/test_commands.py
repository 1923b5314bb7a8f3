"""The commands and their options are those of f5f4443: scripts and notes hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.compat.parts import command_tree
from tests.compat.shapes import RENEW

COMMANDS = Path(__file__).parent / "commands.json"
LEAVING = {"streamseg bench compare": {"--commits", "--rounds"}}
"""Options that may go: comparing two commits, and the number of turns that it takes."""


def options_of(command: Any, path: str) -> list[str]:
    options = [param for param in command.params if param.param_type_name == "option"]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    return sorted(names - LEAVING.get(path, set()))


def tree(command: Any, path: str = "streamseg") -> dict[str, list[str]]:
    """Command path -> sorted names of its options."""
    found = {path: options_of(command, path)}
    for name, below in sorted(getattr(command, "commands", {}).items()):
        found |= tree(below, f"{path} {name}")
    return found


def test_commands_and_options() -> None:
    found = tree(command_tree())
    if RENEW:
        COMMANDS.write_text(json.dumps(found, indent=1) + "\n")
    pinned = json.loads(COMMANDS.read_text())
    said = [f"command {path!r} is missing" for path in pinned if path not in found]
    said += [f"command {path!r} is new" for path in found if path not in pinned]
    for path in pinned.keys() & found.keys():
        said += [f"{path}: option {name} is missing" for name in sorted({*pinned[path]} - {*found[path]})]
        said += [f"{path}: option {name} is new" for name in sorted({*found[path]} - {*pinned[path]})]
    assert not said, "\n".join(said)
