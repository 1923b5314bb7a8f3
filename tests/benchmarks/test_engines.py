"""The table's arithmetic, and that a stopped run goes on; the whole once, at a small size."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import engine_table, engines
from benchmarks.engine_variants import PLAIN, Point, Variant, calibration, inputs, make_variants, peak_memory
from streamseg.benchmark.flops import Work
from streamseg.benchmark.limits import Kernel, limits, processor_kernels
from streamseg.benchmark.measure import Timing
from streamseg.errors import EngineError
from streamseg.export.source import resolve
from streamseg.types import InputSpec

MS = 1_000_000
POINT = Point("improved_unet", 192, 256, 1)
VARIANTS = {
    PLAIN: Variant("eager", "fp32", False, print, {"fp32": 1.0}, 33_000_000, {}),
    "openvino fp32": Variant("openvino", "fp32", True, print, {"fp32": 1.0}, 31_000_000, {}),
    "openvino int8": Variant("openvino", "int8", True, print, {"int8": 0.9, "fp32": 0.1}, 8_000_000, {}),
}
TIMINGS = {
    PLAIN: Timing(((160 * MS,), (320 * MS,))),
    "openvino fp32": Timing(((80 * MS,) * 2, (160 * MS,) * 2)),
    "openvino int8": Timing(((20 * MS,) * 3, (50 * MS,) * 3)),
    "product": Timing(((50 * MS,), (100 * MS,))),
    "int8 chain": Timing(((10 * MS,), (20 * MS,))),
    "copy": Timing(((50 * MS,), (50 * MS,))),
}
KERNELS = [
    Kernel("product", "fp32", 15e9, print),
    Kernel("int8 chain", "int8", 12e9, print),
    Kernel("copy", "copy", 1e9, print),
]
WORK = Work(flop=20_000_000_000, parameters=8_000_000, activations=30_000_000)


def row(name: str) -> dict[str, Any]:
    found = limits(KERNELS, TIMINGS)
    made = engine_table.make_row(POINT, name, VARIANTS[name], TIMINGS, WORK, found, KERNELS)
    return made | {"trained": True, "peak_bytes": None}


def test_ratios_and_shares_are_taken_within_a_round() -> None:
    made = row("openvino int8")
    assert made["ratio_to_eager"] == {"median": 7.2, "min": 6.4, "max": 8.0}
    assert made["latency_ms"]["p50"] == 35
    assert made["latency_ms"]["max"] == 50
    assert made["engine_fps"] == pytest.approx(6 / 0.21, abs=0.01)
    assert made["limit_share"] == {"median": 0.75, "min": 0.6667, "max": 0.8333}
    assert made["gflop_per_s"] == pytest.approx(20 / 0.035, abs=0.01)
    assert made["bandwidth_share"] == pytest.approx(38e6 / 0.035 / 20e9, abs=1e-4)
    assert (made["calls"], made["rounds"], len(made["durations_ms"][0])) == (6, 2, 3)
    assert row("openvino fp32")["limit_share"]["median"] == pytest.approx(20 / 0.08 / 300, abs=1e-3)


def test_the_table_names_goals_and_untrained_nets() -> None:
    rows = [row(name) for name in VARIANTS]
    point = {
        "name": str(POINT),
        "limits": {},
        "others_share": 0.25,
        "absent": {"onnx fp32": "no such package"},
    }
    result = {
        "machine": {"processor": "Xeon", "commit": "abc"},
        "date": "2026-11-22",
        "threads": 2,
        "limits": {"fp32": limits(KERNELS, TIMINGS)["fp32"].to_json()},
        "rows": [*rows, *({**one, "net": "segnet", "trained": False} for one in rows)],
        "points": [point],
    }
    text = "\n".join(engine_table.lines(result))
    assert "## segnet (UNTRAINED: random weights)" in text
    assert "| improved_unet, 192x256, batch 1: INT8 at least 6 x eager | 7.20 (6.40 to 8.00) | met |" in text
    assert "FP32 at least 0.9 of the limit | 0.83 (0.83 to 0.83) | missed |" in text
    assert "90% int8, 10% fp32" in text
    assert "Other processes took 25%" in text
    assert "Absent at improved_unet 192x256 batch 1: onnx fp32: no such package" in text
    assert "not measured" in "\n".join(engine_table.goal_lines([]))


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(point: Point, options: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(str(point))
        context = {"name": str(point), "limits": {}, "others_share": None, "absent": {}}
        return context, [row(PLAIN) | {"net": point.net, "batch": point.batch}]

    monkeypatch.setattr(engines, "measure", measure)
    started = {
        "machine": {"processor": "x", "commit": "y"},
        "date": "d",
        "threads": 1,
        "points": [],
        "rows": [],
    }
    copy = {"giga_per_s": 20.0, "kernel": "copy", "kernels": {}}
    monkeypatch.setattr(
        engines, "start", lambda _: {**started, "limits": {"copy": copy}, "points": [], "rows": []}
    )
    arguments = ["--sizes", "32x32", "--nets", "unet", "segnet", "--date", "d", "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        engines.main(arguments)
    result = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert [point["name"] for point in result["points"]] == ["unet 32x32 batch 1", "segnet 32x32 batch 1"]
    measured.clear()
    engines.main([*arguments, "--resume"])
    assert measured == ["unet 32x32 batch 8", "segnet 32x32 batch 8"]
    result = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert len(result["points"]) == len(result["rows"]) == 4
    measured.clear()
    engines.main([*arguments, "--resume"])
    assert measured == []


def test_inputs_differ_and_come_from_frames() -> None:
    made = inputs(InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5), 2)
    assert all(tensor.shape == (2, 1, 32, 48) and tensor.dtype.name == "float32" for tensor in made)
    assert not (made[0] == made[1]).all()


def test_an_engine_that_cannot_be_built_is_absent_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise EngineError("no such precision here")

    monkeypatch.setattr("benchmarks.engine_variants.build", refuse)
    point = Point("unet", 32, 32, 1)
    made, absent = make_variants(
        point, resolve("unet", (32, 32)), [], tmp_path, 1, ["onnx-fp32"], lambda _: None
    )
    assert list(made) == [PLAIN, "eager fp32, folded"]
    assert set(absent) == {"openvino fp32", "openvino int8", "onnx fp32"}


def test_sizes_are_read(capsys: pytest.CaptureFixture) -> None:
    assert engines.parse(["--sizes", "32x48"]).sizes == [(32, 48)]
    with pytest.raises(SystemExit):
        engines.parse(["--sizes", "big"])
    assert "write 192x256" in capsys.readouterr().err


@pytest.mark.slow
def test_a_whole_table_at_a_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setattr(engines, "processor_kernels", partial(processor_kernels, shrink=16))
    arguments = (
        "--nets improved_unet --sizes 32x48 --batches 2 --rounds 1 --block 0.01 --frames 2 --threads 1"
    )
    engines.main([*arguments.split(), "--out", str(tmp_path)])
    result = json.loads(next(tmp_path.glob("*-engines.json")).read_text())
    assert not [point["absent"] for point in result["points"] if point["absent"]]
    found = {one["variant"]: one for one in result["rows"]}
    assert len(found) == 4
    assert all(one["peak_bytes"] > 1e7 for one in found.values())
    assert found["openvino int8"]["precision_found"]["int8"] > 0.5
    assert found["openvino fp32"]["precision_found"] == {"fp32": 1.0}


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own() -> None:
    task = {"net": "unet", "folded": True, "form": "eager", "shape": [1, 1, 32, 32]}
    peak = peak_memory(Variant("eager", "fp32", True, print, {}, 0, task), 1)
    assert peak is not None
    assert peak > 30e6
    assert peak_memory(Variant("eager", "fp32", True, print, {}, 0, task | {"net": "none"}), 1) is None


def test_calibration_images_are_phantoms() -> None:
    images = calibration(2)
    assert len(images) == 2
    assert images[0].shape == images[1].shape
    assert not (images[0] == images[1]).all()
