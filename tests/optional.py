"""Packages that only some tests need."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*packages: str) -> None:
    """Skip the test, or the module that calls this, if a package is not installed.

    Unlike ``pytest.importorskip`` this imports nothing: every process of a run collects all modules, most of
    which it runs no test of.
    """
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed", allow_module_level=True)
