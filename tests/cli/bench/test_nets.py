"""The command: options into what is measured, results out of it, and messages for what there is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamseg.benchmark.nets.bench import NetsOptions
from streamseg.benchmark.nets.table import lines
from streamseg.benchmark.rows import Row, read_rows
from streamseg.cli import app
from streamseg.cli.bench.nets import parse_batch
from streamseg.core.errors import UsageError


def row(**values: Any) -> Row:
    made = {
        "bench": "nets", "key": "unet openvino int8 32x48 b1", "notes": ["odd"],
        "rounds": {"engine_ms": [1.0]},
        "run": {
            "stopped": False, "absent": {"unet onnx int8 32x48 b1": "gone"}, "threads": 2,
            "others_share": 0.1,
            "source": {"name": "phantom.mp4"}, "regime": {"rounds": 2, "warmup_calls": 2},
        },
        "net": "unet", "backend": "openvino", "precision": "int8", "precision_found": {"int8": 0.9},
        "trained": False, "folded": True, "height": 32, "width": 48, "batch": 1, "engine_fps": 100.0,
        "end_to_end_fps": None, "latency_ms": {"p50": 10.0, "p95": 11.0, "p99": 12.0, "max": 13.0},
        "ratio_to_eager": {"median": 8.0, "min": 7.0, "max": 9.0}, "limit_share": 0.5, "dice": None,
        "dice_data": "8 phantoms", "mask_agreement": None, "model_bytes": 8_000_000, "peak_host_bytes": None,
        "start_s": {"warm": None, "build": 1.0, "cold": None},
    }  # fmt: skip
    return {**made, **values}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NetsOptions]:
    """What the command asks for; nothing is measured."""
    given: list[NetsOptions] = []

    def measure(options: NetsOptions, say: object) -> list[Row]:
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
    assert read_rows(tmp_path / "a.json")[0]["net"] == "unet"
    assert "| openvino int8 | 100 | - | 10.0 |" in found.stdout
    assert "Note: unet openvino int8 32x48 b1: odd" in found.stdout
    assert "Absent: unet onnx int8 32x48 b1: gone" in found.stdout


def test_what_is_odd_of_many_rows_is_said_once() -> None:
    rows = [row(key=key, notes=["late", key]) for key in "ab"]
    assert [line for line in lines(rows) if line.startswith("Note")] == [
        "Note: 2 of 2 rows: late", "Note: a: a", "Note: b: b",
    ]  # fmt: skip


def test_rows_on_stdout_are_all_that_is_there(asked: list[NetsOptions]) -> None:
    found = call("--json", "-")
    assert found.exit_code == 0
    assert json.loads(found.stdout)[0]["key"] == "unet openvino int8 32x48 b1"
    assert asked[0].batches == (1,)


def test_a_stopped_run_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped = {**row()["run"], "stopped": True}
    monkeypatch.setattr("streamseg.benchmark.nets.bench.measure_nets", lambda *_: [row(run=stopped)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    found = call("--json", str(tmp_path / "a.json"))
    assert found.exit_code == 130
    assert read_rows(tmp_path / "a.json")[0]["run"]["stopped"] is True


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
    rows = read_rows(path)
    assert [(one["backend"], one["folded"]) for one in rows] == [
        ("eager", False), ("eager", True), ("openvino", True),
    ]  # fmt: skip
    for one in rows:
        assert one["precision_found"] == {"fp32": 1.0}
        assert one["end_to_end"]["dropped"] == 0
        assert one["limit_share"] > 0
        assert one["probability_difference"] < 1e-3
