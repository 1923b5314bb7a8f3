"""What every command that measures refuses at its beginning, and writes at its end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import typer

from streamseg.benchmark.rows.reading import read_rows
from streamseg.cli.bench.common import check_outputs, listed, write_outputs
from streamseg.core.errors import MissingExtra, SinkError, UsageError
from tests.benchmark.sample_rows import make_run, streams_rows


def test_rows_on_stdout_are_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    rows = streams_rows()
    write_outputs(rows, Path("-"), None)
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    assert [row["key"] for row in json.loads(output.out)] == [row.key for row in rows]
    assert "| streams |" in output.err


def test_tables_go_to_stdout_and_rows_to_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    write_outputs(streams_rows(), path, None)
    output = capsys.readouterr()
    assert "| streams |" in output.out
    assert output.out.endswith(".\n")
    assert f"wrote {path}" in output.err
    assert len(read_rows(path)) == len(streams_rows())


def test_rows_are_kept_where_the_report_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SinkError("the disk is full")

    monkeypatch.setattr("streamseg.benchmark.report.write.write_report", fail)
    with pytest.raises(SinkError):
        write_outputs(streams_rows(), tmp_path / "rows.json", tmp_path / "report.html")
    assert read_rows(tmp_path / "rows.json")


def test_a_stopped_run_is_written_and_ends_as_ctrl_c_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = streams_rows(make_run("bench streams", stopped=True))
    with pytest.raises(typer.Exit) as left:
        write_outputs(rows, tmp_path / "rows.json", None)
    assert left.value.exit_code == 130
    assert "stopped before its end" in capsys.readouterr().err
    assert read_rows(tmp_path / "rows.json")


@pytest.mark.parametrize(
    ("json_file", "report", "words"),
    [
        (".", None, "--json . is a folder"),
        ("no/such/rows.json", None, "the folder no/such does not exist"),
        (None, "report.txt", "end the name in .html"),
        (None, "no/such/report.html", "the folder no/such does not exist"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_first(
    json_file: str | None, report: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check_outputs(*(None if path is None else Path(path) for path in (json_file, report)))


def test_stdout_and_new_files_are_accepted(tmp_path: Path) -> None:
    check_outputs(Path("-"), None)
    check_outputs(tmp_path / "rows.json", tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "rows.json").write_text("an earlier run")
    check_outputs(tmp_path / "rows.json", None)
    assert (tmp_path / "rows.json").read_text() == "an earlier run"


def test_a_pipe_is_not_opened_before_there_are_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_outputs(tmp_path / "pipe", None)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which root cannot write")
def test_an_unwritable_file_is_reported_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match=r"--json /proc/x\.json cannot be written: .+; choose a folder"):
        check_outputs(Path("/proc/x.json"), None)


def test_a_report_needs_what_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"streamseg\[bench\]"):
        check_outputs(None, tmp_path / "report.html")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (None, ()),
        (["unet"], ("unet",)),
        (["unet,segnet"], ("unet", "segnet")),
        ([" segnet , unet", "improved_unet\t"], ("segnet", "unet", "improved_unet")),
    ],
)
def test_given_several_times_or_with_commas_and_blanks(
    given: list[str] | None, parts: tuple[str, ...]
) -> None:
    assert listed("--net", given, "unet, segnet") == parts


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([""], "--net has an empty part, received ''; give some of unet, segnet"),
        (["unet,"], "--net has an empty part, received 'unet,'; "),
        ([",", "unet"], "--net has an empty part"),
        (["unet, unet"], "--net names 'unet' twice, received 'unet, unet'; give some of unet, segnet"),
        (["unet", "segnet,unet"], "--net names 'unet' twice"),
    ],
)
def test_empty_parts_and_doubles_are_refused_in_one_line(given: list[str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        listed("--net", given, "unet, segnet")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
