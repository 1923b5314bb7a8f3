"""A throw-away git checkout of a package ``streamseg`` whose benchmark gives known figures."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROGRAM = """
import json, os, pathlib, sys, time
MS = {ms}
arguments = sys.argv[1:]
if arguments[:2] != ["bench", "nets"] or not {bench}:
    sys.exit("error: no such command")
if "--help" in arguments:
    sys.exit(0)
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    engines = pathlib.Path(os.environ["STREAMSEG_ENGINES"]).name
    call = {{"ms": MS, "arguments": arguments, "engines": engines, "pid": os.getpid()}}
    print(json.dumps(call), file=calls)
count = len((folder / "calls").read_text().splitlines())
if (folder / "hang").exists():
    time.sleep(120)
if (folder / f"fail-{{count}}").exists():
    sys.exit("error: the engine broke")
pace = 1 + 0.1 * ((count - 1) // 2)  # the machine gets slower from turn to turn
rounds = {{"engine_ms": [MS * pace * off for off in (0.99, 1.0, 1.02)], "end_to_end_fps": [100 / pace]}}
rows = [{{"bench": "nets", "key": "net", "run": {{}}, "notes": [], "dice": 0.9, "rounds": rounds}}]
pathlib.Path(arguments[arguments.index("--json") + 1]).write_text(json.dumps(rows))
"""


def git(folder: Path, *arguments: str) -> str:
    """What git prints, with nobody's settings."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    names = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", folder, *names, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()


def make_repository(folder: Path) -> Path:
    """Tags ``old``, ``slow`` (20 % slower) and ``none`` (without the benchmark). Calls are noted in ``calls``
    beside it, and what ``hang`` or ``fail-N`` there is for."""
    repository = folder / "checkout"
    package = repository / "streamseg"
    package.mkdir(parents=True)
    git(folder, "init", "--quiet", str(repository))
    for tag, ms, bench in (("none", 10.0, False), ("old", 10.0, True), ("slow", 12.0, True)):
        (package / "__init__.py").write_text(f"VERSION = {tag!r}\n")
        (package / "__main__.py").write_text(PROGRAM.format(ms=ms, bench=bench, folder=str(folder)))
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "-m", tag)
        git(repository, "tag", tag)
    return repository
