"""``streamseg sbom``: what is installed, for those who must answer for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streamseg.cli.options import ForceOption


def sbom(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write the document here. Default: print it."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--extra", metavar="NAME", help="With what this extra adds; may be repeated."),
    ] = None,
    licences: Annotated[
        bool, typer.Option("--licences", help="A table of packages and licences in Markdown instead.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Write the software bill of materials of this installation (CycloneDX 1.6).

    It lists the packages that streamseg needs, directly or not, with the versions and licences that are
    installed here, and the weights with their hashes. The same installation gives the same document.
    """
    from streamseg.cli.console import say
    from streamseg.core.errors import UsageError
    from streamseg.core.files import write_whole
    from streamseg.reporting.sbom import installed_packages, licence_table
    from streamseg.reporting.sbom import sbom as document

    if licences:
        text = licence_table(installed_packages(extra or ()))
    else:
        text = json.dumps(document(extra or ()), indent=2)
    if out is None:
        print(text)
        return
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another name, or overwrite it with --force")
    write_whole(out, f"{text}\n".encode())
    say(f"wrote {out}")
