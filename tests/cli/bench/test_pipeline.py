"""The command ``streamseg bench pipeline``, with a real small engine."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from streamseg.cli.bench.pipeline import paces_of, pipeline
from streamseg.core.errors import SourceError, UsageError
from tests.benchmark.fakes import write_clip


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(pipeline)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "small.mp4")


SHORT = ("--seconds", 0.3, "--rounds", 1, "--fps", 20)


def test_tables_and_rows(run, engine: Path, clip: Path, tmp_path: Path) -> None:
    result = run("--engine", engine, "--source", clip, *SHORT, "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("| live 20 fps |") == 2
    assert "round 1 of 1: replay small.mp4" in result.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["key"] for row in rows] == ["replay small.mp4", "live 20 fps", "live, overloaded"]
    assert rows[0]["engine"]["backend"] == "openvino"
    assert rows[0]["dropped"] == 0


def test_rates_may_be_given_again_or_with_commas() -> None:
    assert paces_of(["5, 29.97", "60"]) == (5.0, 29.97, 60.0)
    assert paces_of(None) == (30.0, 60.0)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("--source", "no-such.mp4"), UsageError, "no-such.mp4"),
        (("--source", "rtsp://host/1"), UsageError, "rtsp"),
        (("--fps", "30,"), UsageError, "--fps has an empty part"),
        (("--fps", "30,fast"), UsageError, "--fps 30,fast is not a list of rates"),
        (("--fps", "nan"), UsageError, "nan frames per second"),
        (("--fps", "0"), UsageError, "0 frames per second"),
        (("--engine", "no-such-engine"), UsageError, "no-such-engine"),
        (("--json", "no/such/folder/rows.json"), UsageError, "does not exist"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line_before_any_work(
    run, engine: Path, arguments, kind, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "streamseg.benchmark.clip.PhantomVideo", lambda *_, **__: pytest.fail("a clip was rendered")
    )
    given = () if "--engine" in arguments else ("--engine", engine)
    error = run(*arguments, *given).exception
    assert isinstance(error, kind)
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_file_that_is_not_a_clip_is_refused(run, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert isinstance(run("--engine", engine, "--source", tmp_path / "text.mp4").exception, SourceError)
