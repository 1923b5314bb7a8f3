"""A result's file: rows come back as they were, and what is none is refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamseg.benchmark.rows import finish_run, read_rows, start_run, write_rows
from streamseg.core.errors import DataError


def rows() -> list[dict[str, object]]:
    run = start_run(["bench", "nets", "--quick"], quick=True, threads=2, source=None, regime={"rounds": 3})
    finish_run(run, seconds=1.234, others_share=0.1, absent={"segnet": "no torch"})
    return [
        {"bench": "nets", "key": "a", "run": run, "rounds": {"engine_ms": [1.0, 2.0]}, "notes": []},
        {"bench": "nets", "key": "b", "run": run, "rounds": {}, "notes": [], "dice": float("nan")},
    ]


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_rows(path, rows())
    found = read_rows(path)
    assert isinstance(json.loads(path.read_text()), list)
    assert found[0]["rounds"] == {"engine_ms": [1.0, 2.0]}
    assert found[0]["run"]["command"] == "streamseg bench nets --quick"
    assert found[0]["run"]["absent"] == {"segnet": "no torch"}
    assert found[1]["dice"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no result"),
        ("{}", "no list of rows"),
        ("[]", "no list of rows"),
        ("[3]", "row 0 lacks bench"),
        ('[{"bench": "nets", "key": "a"}]', "row 0 lacks run, rounds, notes"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--json"):
        read_rows(tmp_path / "none.json")


def test_the_command_is_kept_without_folders(tmp_path: Path) -> None:
    """A result is published; a folder may be called after a patient."""
    clip = tmp_path / "Doe_Jane" / "clip.mp4"
    clip.parent.mkdir()
    clip.touch()
    arguments = [
        "bench",
        "nets",
        "--source",
        str(clip),
        "--json",
        str(clip.parent / "new.json"),
        "--size",
        "32x64",
    ]
    run = start_run(arguments, quick=False, threads=1, source=None, regime={})
    assert run["command"] == "streamseg bench nets --source clip.mp4 --json new.json --size 32x64"
