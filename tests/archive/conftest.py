"""The parts of the commands' tests: a small engine, and clips of a bright disc."""

from __future__ import annotations

from tests.cli.conftest import engine, write_clip

__all__ = ["engine", "write_clip"]
