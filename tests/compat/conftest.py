"""Settings for tests of files and keys that users depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.parts import MADE


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles, engines and outputs of a test are its own."""
    monkeypatch.setenv("STREAMSEG_PROFILES", str(MADE / "profiles"))
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
