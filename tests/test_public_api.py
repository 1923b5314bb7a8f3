"""What ``import streamseg`` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamseg

SOURCE = Path(streamseg.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", streamseg.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(streamseg, name)
    if name != "__version__":
        assert value.__doc__
        assert value.__name__ == name


def test_type_checkers_see_the_names_that_are_there() -> None:
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == streamseg._HOMES
    assert set(streamseg.__all__) == {*seen, "__version__"}
    assert dir(streamseg) == sorted(streamseg.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = streamseg.nonesuch


def test_import_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, streamseg; heavy = ('numpy', 'cv2', 'av', 'openvino', 'torch', 'pydicom', 'rich');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_the_package_is_typed() -> None:
    assert Path(streamseg.__file__).with_name("py.typed").is_file()


def test_nothing_is_reported_to_anybody() -> None:
    """OpenVINO and NNCF would tell an analytics server that they were imported."""
    code = (
        "import streamseg, streamseg.backends.openvino.backend, openvino, sys; "
        "assert 'stub' in type(openvino.tools.ovc.telemetry).__module__; "
        "assert sys.modules['openvino_telemetry'] is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
