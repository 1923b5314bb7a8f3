"""The GPU's benchmark without a GPU: it runs where little is installed, and loses nothing."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the GPU's benchmark needs torch")

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import table
from benchmarks.gpu.points import activations_of

ROOT = Path(__file__).resolve().parents[2]
MISSING = (
    *("openvino", "av", "nncf", "pydicom", "pylibjpeg", "openjpeg", "platformdirs", "tomli_w", "lightning"),
    *("starlette", "uvicorn", "websockets", "fastcrc", "modelopt"),
)
"""Packages that a machine with a GPU but no network may lack."""
BLOCKED = f"""
import sys
for name in {MISSING}:
    sys.modules[name] = None
from benchmarks.gpu.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(out: Path, *arguments: str) -> dict[str, Any]:
    """A dry run in a process that lacks packages; what it wrote."""
    call = [sys.executable, "-c", BLOCKED, *arguments, "--device", "cpu", "--tiny", "--out", str(out)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(next(out.glob("*-dry-engines.json")).read_text())
    assert next(out.glob("*-dry-engines.md")).read_text().startswith("# Engines on ")
    return found


@pytest.mark.slow
def test_a_dry_run_of_the_core_set_has_all_its_parts(tmp_path: Path) -> None:
    result = run(tmp_path, "core", "--minutes", "30")
    assert set(result) >= {"date", "machine", "limits", "points", "checks", "folding", "start", "claims"}
    assert {"fp16", "bf16", "fp32", "copy"} <= set(result["limits"]["device"])
    unfinished = {
        key: part["not_measured"]
        for section in ("points", "checks", "folding")
        for key, part in result[section].items()
        if "not_measured" in part
    }
    assert unfinished == {}
    rows = result["points"]["improved_unet 416x576 b1"]["variants"]
    for name in ("eager-fp32", "eager-bf16", "graph-bf16"):
        assert rows[name]["device_ms"] > 0
        assert rows[name]["found"] == {name.partition("-")[2]: 1.0}
    assert rows["graph-bf16"]["ratio_fp16"]["median"] > 0
    assert "GPU" in rows["tensorrt-fp16"]["absent"]
    assert "GPU" in rows["tensorrt-int8"]["absent"]
    assert result["points"]["improved_unet 416x576 b8"]["batch"] == 2
    assert result["checks"]["parity"]["graph-bf16"]["kernels"]
    assert result["checks"]["parity lite_unet"]["graph-bf16"]["kernels"]
    assert result["points"]["lite_unet 416x576 b1"]["variants"]["graph-bf16"]["device_ms"] > 0
    assert result["checks"]["graph graph-bf16"]["holds"]
    assert result["checks"]["leak graph-bf16"]["frames"] == 20
    assert result["folding"]["improved_unet / unet 416x576 b1"]["device_ratio"] > 0
    assert "GPU" in result["start"]["tensorrt-fp16"]["absent"]


FAKED = f"""
import sys
for name in {MISSING}:
    sys.modules[name] = None
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import variants
from streamseg.backends import compiled
from tests.benchmarks.fake_cuda import fake_cuda

def compile_net(checkpoint, dtype, batch, device):  # kernel by kernel: compiling takes minutes
    from streamseg.nets.inference import inference_net

    return inference_net(checkpoint).to(device, dtype), {{"fp16": 1.0}}

compiled.compile_net = compile_net
variants.MAKERS["compiledlight"] = variants.MAKERS["light"]
gpu._start = lambda plan, backend, precision: ("start", backend, lambda: {{"absent": "not here"}})
with fake_cuda():
    sys.exit(gpu.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_core_set_makes_all_calls_that_a_gpu_would_get(tmp_path: Path) -> None:
    """Streams, graphs, events, pinned memory: on a stand-in, which shows wrong arguments and wrong order."""
    call = [sys.executable, "-c", FAKED, "core", "--minutes", "30", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(next(tmp_path.glob("*-engines.json")).read_text())
    for section in ("limits", "points", "checks", "folding"):
        for key, part in result[section].items():
            assert "not_measured" not in part, (key, part)
    for net in gpu.NETS:
        rows = result["points"][f"{net} 416x576 b1"]["variants"]
        assert {name for name, row in rows.items() if "absent" not in row} >= {
            "eager-fp32",
            "eager-fp16",
            "graph-fp16",
            "compiled-fp16",
        }
        assert all(row["absent"] for name, row in rows.items() if name.startswith("tensorrt"))
    for parity in ("parity", "parity lite_unet"):
        assert result["checks"][parity]["compiled-fp16"]["holds"]
    follows = result["checks"]["graph compiled-fp16"]
    assert (follows["stale"], follows["holds"]) == (0, True)


def plan(tmp_path: Path, minutes: float = 1.0) -> gpu.Plan:
    result = {
        "machine": {"processor": "some", "commit": ""},
        "date": "2026-11-22",
        "limits": {},
        "points": {},
    }
    return gpu.Plan("cpu", True, minutes, result, tmp_path / "result")


def test_a_part_that_fails_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("CUDA error:\nbad")

    run = plan(tmp_path)
    run.do("start", "first", fail)
    run.do("start", "second", lambda: {"absent": "no TensorRT"})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["start"]["first"]["not_measured"] == "RuntimeError: CUDA error: bad"
    assert "no TensorRT" in (tmp_path / "result.md").read_text()


def test_finished_parts_are_not_measured_again(tmp_path: Path) -> None:
    run = plan(tmp_path)
    run.result["start"] = {"old": {"absent": "kept"}, "late": {"not_measured": "3 s were left"}}
    run.do("start", "old", lambda: {"absent": "new"})
    run.do("start", "late", lambda: {"absent": "new"})
    assert run.result["start"]["old"]["absent"] == "kept"
    assert run.result["start"]["late"]["absent"] == "new"


def test_a_part_that_would_end_too_late_does_not_begin(tmp_path: Path) -> None:
    run = plan(tmp_path, minutes=0.5)
    run.longest["start"] = 40
    run.do("start", "slow", lambda: pytest.fail("it began"))
    assert "such a part takes 40 s" in run.result["start"]["slow"]["not_measured"]


def test_a_part_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "OVERTIME_S", -60.0)
    run = plan(tmp_path, minutes=1)
    endless = threading.Event()
    run.do("start", "stuck", lambda: {"came": endless.wait(60)})
    assert "TimeoutError: the time was over" in run.result["start"]["stuck"]["not_measured"]
    run.do("start", "next", lambda: {"absent": "no TensorRT"})
    assert run.result["start"]["next"]["absent"] == "no TensorRT"


def test_pieces_share_all_points(tmp_path: Path) -> None:
    run = plan(tmp_path)
    pieces = [[key for _, key, _ in gpu.full(run, (n, 3))] for n in (1, 2, 3)]
    keys = [key for piece in pieces for key in piece if key != "device"]
    assert len(keys) == len(set(keys)) == 4 * 3 * 2 * 2 + 2
    assert "segnet 256x320 b8" in keys
    assert "improved_unet 192x256 b1 light" in keys


def test_numbers_that_convolutions_move_are_counted_once() -> None:
    one = activations_of("unet", 1, 1, 192, 256)
    assert one == 29_245_440
    assert activations_of("unet", 8, 1, 192, 256) == 8 * one


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1"])
def test_pieces_that_do_not_exist_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["full", "--piece", text])
    assert "piece" in capsys.readouterr().err


def row(**values: Any) -> dict[str, Any]:
    return {
        "found": {"fp16": 1.0},
        "end_to_end_ms": {"median": 0.8, "p99": 0.9, "max": 1.0},
        "frames_per_s": 1250.0,
        "ratio_fp16": {"median": 3.5},
        "device_ms": 0.5,
        "tflop_per_s": 200.0,
        "of_matrix_rate": 0.45,
        "of_bandwidth": 0.2,
    } | values


def test_aims_are_judged_by_engines_and_not_by_torch_eager() -> None:
    def point(**rows: Any) -> dict[str, Any]:
        return {"trained": True, "variants": rows | {"eager-fp16": row(of_matrix_rate=0.9)}}

    result = {
        "points": {
            "improved_unet 416x576 b1": point(compiled=row(), absent={"absent": "why"}),
            "improved_unet 416x576 b8": point(compiled=row(of_matrix_rate=0.35)),
        },
        "folding": {"pair": {"ratio": {"median": 1.01}}},
        "checks": {
            "parity": {"compiled": {"holds": True}, "seconds": 3.0},
            "leak compiled": {"holds": False},
            "graph tensorrt": {"absent": "why"},
        },
    }
    verdicts = [claim["holds"] for claim in table.claims(result).values()]
    assert verdicts == [True, False, True, True, False]
    assert [claim["holds"] for claim in table.claims({}).values()] == [None] * 5


@pytest.mark.skipif(__import__("torch").cuda.is_available(), reason="there is a GPU, which it would measure")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["core", "--out", str(tmp_path)]) == 2
    assert "no NVIDIA GPU found" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
