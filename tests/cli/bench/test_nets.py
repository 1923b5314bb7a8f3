"""The command ``streamseg bench nets``: its options, its results, and the messages for what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamseg.benchmark.nets.bench import NetsOptions
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.reading import read_rows
from streamseg.cli import app
from streamseg.cli.bench.nets import parse_batch
from streamseg.core.errors import UsageError
from tests.benchmark.sample_rows import make_run, nets_rows


def row(*, stopped: bool = False) -> NetRow:
    run = make_run("bench nets", absent={"unet onnx int8 32x48 b1": "gone"}, stopped=stopped)
    return replace(
        nets_rows(run, nets=("unet",))[3], key="unet openvino int8 32x48 b1", notes=["odd"], engine_fps=100.0
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NetsOptions]:
    """What the command asks for; nothing is measured."""
    given: list[NetsOptions] = []

    def measure(options: NetsOptions, say: object) -> list[NetRow]:
        given.append(options)
        return [row()]

    monkeypatch.setattr("streamseg.benchmark.nets.bench.measure_nets", measure)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return given


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["bench", "nets", *arguments])


def test_options_may_be_given_again_or_with_commas(asked: list[NetsOptions], tmp_path: Path) -> None:
    found = call(
        "--net", "unet", "--net", "segnet", "--backend", "openvino", "--precision", "fp32, int8",
        "--size", "64x96", "--size", "128x160", "--batch", "1,8", "--rounds", "3", "--threads", "2",
        "--quick",
        "--data", str(tmp_path), "--last", "0.2", "--source", "clip.mp4", "--json", str(tmp_path / "a.json"),
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    options = asked[0]
    assert options.nets == ("unet", "segnet")
    assert options.precisions == ("fp32", "int8")
    assert options.sizes == ((64, 96), (128, 160))
    assert options.batches == (1, 8)
    assert (options.rounds, options.threads, options.quick, options.last) == (3, 2, True, 0.2)
    assert (options.source, options.data) == ("clip.mp4", tmp_path)
    assert [one.to_json() for one in read_rows(tmp_path / "a.json")] == [row().to_json()]
    assert "| OpenVINO INT8 | 100 | " in found.stdout
    assert "Note: unet openvino int8 32x48 b1: odd" in found.stdout
    assert "Absent: unet onnx int8 32x48 b1: gone" in found.stdout


def test_rows_on_stdout_are_all_that_is_there(asked: list[NetsOptions]) -> None:
    found = call("--json", "-")
    assert found.exit_code == 0
    assert json.loads(found.stdout)[0]["key"] == "unet openvino int8 32x48 b1"
    assert asked[0].batches == (1,)


def test_a_stopped_run_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("streamseg.benchmark.nets.bench.measure_nets", lambda *_: [row(stopped=True)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    found = call("--json", str(tmp_path / "a.json"))
    assert found.exit_code == 130
    assert read_rows(tmp_path / "a.json")[0].run.stopped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--net", "vnet"), "no net is called 'vnet'"),
        (("--backend", "caffe"), "no back end is called 'caffe'"),
        (("--precision", "int4"), "no precision is called 'int4'"),
        (("--size", "big"), "size 'big' is not HxW"),
        (("--size", "33x48"), "multiples of 16"),
        (("--size", ""), "--size has an empty part"),
        (("--size", "100000x100000"), "sides up to 2048, received 100000x100000"),
        (("--net", "unet,unet"), "names 'unet' twice"),
        (("--backend", ","), "give some of eager, openvino"),
        (("--batch", "0"), "1 to 1024 frames, received '0'"),
        (("--json", "/nowhere/a.json"), "does not exist"),
        (("--last", "0.2"), "--data"),
        (("--data", "/nowhere"), "/nowhere"),
    ],
)
def test_what_there_is_not_is_refused(arguments: tuple[str, ...], message: str) -> None:
    found = call(*arguments)
    assert isinstance(found.exception, UsageError)
    assert message in str(found.exception)


def test_numbers_of_frames_are_read() -> None:
    assert parse_batch("8") == 8
    for text in ("1.5", "-1", "2000", "x"):
        with pytest.raises(UsageError, match="1 to 1024"):
            parse_batch(text)


@pytest.mark.slow
def test_a_small_net_for_real(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "rows.json"
    found = call("--quick", "--net", "unet", "--size", "32x48", "--precision", "fp32", "--json", str(path))
    assert found.exit_code == 0, found.output
    rows = [one for one in read_rows(path) if isinstance(one, NetRow)]
    # The U-Net has nothing to fold, so torch's folded form would be the one as trained.
    assert [(one.backend, one.folded) for one in rows] == [("eager", False), ("openvino", True)]
    for one in rows:
        assert one.precision_found == {"fp32": 1.0}
        assert one.end_to_end.dropped == 0
        assert (one.limit_share or 0) > 0
        assert (one.probability_difference or 0) < 1e-3
