"""The command ``streamseg bench peers``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from streamseg.benchmark.peers import bench as module
from streamseg.benchmark.peers.bench import PeersOptions
from streamseg.benchmark.peers.peer import Peer
from streamseg.cli.bench.peers import peers
from streamseg.core.errors import UsageError
from tests.benchmark.fakes import peer, write_clip

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def makers(kind: str, *_: object) -> dict[str, Callable[[], Peer]]:
        return {kind: lambda: peer(kind, kind, "int8", lambda: 1)}

    monkeypatch.setattr(module, "_makers", makers)
    app = typer.Typer()
    app.command()(peers)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "small.mp4")


def test_tables_and_rows(run: Run, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    result = run("--source", clip, "--quick", "--size", "64x80", "--threads", 1, "--json", file)
    assert result.exit_code == 0, result.output
    assert "| pipeline (ours) |" in result.stdout
    rows = json.loads(file.read_text())
    assert [row["kind"] for row in rows] == ["runtime", "pipeline"]
    assert rows[0]["run"]["threads"] == 1


def test_rows_alone_on_stdout(run: Run, clip: Path) -> None:
    result = run("--source", clip, "--quick", "--kind", "pipeline, runtime", "--json", "-")
    assert result.exit_code == 0, result.output
    assert [row["kind"] for row in json.loads(result.stdout)] == ["pipeline", "runtime"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kind", "engine"), "choose among runtime, pipeline"),
        (("--kind", "runtime,"), "give some of runtime, pipeline"),
        (("--kind", "pipeline", "--kind", "pipeline"), "names 'pipeline' twice"),
        (("--size", "large"), "is not HxW"),
        (("--size", "50x50"), "multiples of 16"),
        (("--size", "1600x16000"), "sides up to 1024, received 1600x16000"),
        (("--json", "/nowhere/rows.json"), "does not exist"),
    ],
)
def test_bad_options_are_refused_in_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_the_usual_size_is_that_of_the_shipped_engine() -> None:
    assert PeersOptions().size == (192, 224)
