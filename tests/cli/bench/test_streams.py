"""The command ``streamseg bench streams``, with real small engines, of one frame and of several."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from streamseg.backends.loading import DEFAULT_NET
from streamseg.cli.bench.streams import counts_of, load, streams
from streamseg.core.errors import UsageError
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import small_model, store_engine
from tests.benchmark.fakes import write_clip

Run = Callable[..., Result]
SHORT = ("--seconds", 0.2, "--rounds", 1)


@pytest.fixture
def run() -> Run:
    app = typer.Typer()
    app.command()(streams)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "small.mp4")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineStore:
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "store"))
    return EngineStore()


def test_tables_and_rows(run: Run, engine: Path, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    result = run("--engine", engine, "--source", clip, "--streams", "1,3", *SHORT, "--json", file)
    assert result.exit_code == 0, result.output
    assert "This machine holds" in result.stdout
    assert "round 1 of 1: 3 streams" in result.stderr
    rows = json.loads(file.read_text())
    assert [row["key"] for row in rows] == ["1 stream", "3 streams"]
    assert rows[0]["engine"]["name"] == "bright"
    assert rows[0]["run"]["source"]["name"] == "small.mp4"
    assert rows[0]["source_fps"] == 30


def test_an_engine_of_several_frames_is_found_by_its_batch(
    run: Run, store: EngineStore, clip: Path, tmp_path: Path
) -> None:
    store_engine(store, small_model(batch=4), net=DEFAULT_NET, batch=4, speed={"ms": 2.0})
    store_engine(store, small_model(batch=2), net=DEFAULT_NET, batch=2)
    store_engine(store, small_model(), net=DEFAULT_NET)
    result = run("--batch", 4, "--source", clip, "--streams", 2, *SHORT, "--json", "-")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert row["batch"] == 4
    assert "-b4-" in row["engine"]["name"]
    assert 1 <= row["batch_fill"] <= 2
    assert "4 per call" in result.stderr


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_of_several_engines_the_named_or_the_fastest(store: EngineStore, precision: str) -> None:
    for each, milliseconds in (("fp32", 3.0), ("fp16", 2.0)):
        model = small_model(batch=4)
        store_engine(store, model, net=DEFAULT_NET, batch=4, precision=each, speed={"ms": milliseconds})
    named = load(f"{DEFAULT_NET}-openvino-{precision}", 4, threads=1, throughput=False)
    fastest = load(None, 4, threads=1, throughput=False)
    assert f"-{precision}-" in named.name
    assert "-fp16-" in fastest.name
    for backend in (named, fastest):
        backend.close()


@pytest.mark.usefixtures("store")
def test_an_engine_whose_batch_is_another_is_refused(engine: Path) -> None:
    with pytest.raises(UsageError, match="takes 1 frames at a time, --batch says 4"):
        load(str(engine), 4, threads=1, throughput=False)
    with pytest.raises(UsageError, match=rf"build one with streamseg export {DEFAULT_NET} .* --batch 8"):
        load(None, 8, threads=1, throughput=False)


def test_numbers_of_streams() -> None:
    assert counts_of(None) == (1, 2, 4, 8)
    assert counts_of(["1", " 2, 4"]) == (1, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--streams", "1,two"), "--streams two is not a number"),
        (("--streams", "1,,2"), "has an empty part"),
        (("--streams", "2,-1"), "--streams -1 is not a number"),
        (("--streams", "0"), "cannot be measured"),
        (("--fps", "0"), "0 frames per second"),
        (("--seconds", "nan"), "cannot be measured"),
        (("--source", "no-such.mp4"), "no-such.mp4"),
        (("--engine", "no-such-engine"), "no-such-engine"),
        (("--json", "no/such/folder/rows.json"), "does not exist"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line_before_any_work(
    run: Run, engine: Path, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "streamseg.benchmark.clip.PhantomVideo", lambda *_, **__: pytest.fail("a clip was rendered")
    )
    given = () if "--engine" in arguments else ("--engine", engine)
    error = run(*arguments, *given).exception
    assert isinstance(error, UsageError)
    assert words in str(error)
    assert "\n" not in str(error)
