"""Writes the reference of commands from the commands themselves, while the site is built.

Replaces the line ``<!-- commands -->`` of a page with a section per command: its help, its usage and its
options, as ``streamseg COMMAND --help`` prints them. (sphinx-click cannot do this: typer has its own
copy of click.)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from sphinx.application import Sphinx

from streamseg.cli import app as streamseg_app

MARK = "<!-- commands -->"
PAGE = "reference/commands"


def commands_markdown(app: typer.Typer = streamseg_app, name: str = "streamseg") -> str:
    """The reference of every command of an app, MyST Markdown: the app itself, then a section per command."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name=name, **command.context_settings)
    return "\n".join(described(command, context, level=1))


def described(command: Any, context: Any, *, level: int) -> Iterator[str]:
    """Lines of one command and, as sections, of those below it. ``--help`` is described once, at the top."""
    path = context.command_path
    if level > 1:
        yield f"{'#' * level} {path}\n"
    yield from paragraphs(command.help or "")
    yield f"```text\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```\n"
    yield f"```{{program}} {path}\n```\n"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and (level == 1 or parameter.name != "help"):
            yield from entry(*record)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            below = typer.Context(child, parent=context, info_name=name)
            yield from described(child, below, level=level + 1)


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a command's help, with its options set as code."""
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        yield f"{marked(' '.join(part.split()))}\n"


def entry(names: str, words: str) -> Iterator[str]:
    """One argument or option, from the two columns that ``--help`` prints."""
    signature = names.replace(" / ", ", ").replace("\n", " ")
    if not signature.startswith("-"):
        signature = re.sub(r" <.*>$", "", signature)
    yield f"````{{option}} {signature}\n{marked(' '.join(words.split()))}\n````\n"


def marked(text: str) -> str:
    """Text for Markdown: options, commands in quotes and addresses as code, the rest without markup."""
    text = re.sub(r"([<>*_`|])", r"\\\1", text)
    text = re.sub(r"'(streamseg [^']+)'", r"`\1`", text)
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", text)


def insert(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the reference into its page."""
    if docname == PAGE:
        source[0] = source[0].replace(MARK, commands_markdown())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx. The page is read in every build: its file does not change with the commands."""
    app.connect("source-read", insert)
    app.connect("env-get-outdated", lambda *_: [PAGE])
    return {"parallel_read_safe": True}
