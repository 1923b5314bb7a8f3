import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.start import __main__ as start
from benchmarks.start.__main__ import Case
from streamseg.core.errors import EngineError
from tests.rtsp_server.server import why_not

ENDS = ("python", "import", "load", "decode", "mask")
LIVE_ENDS = ("python", "import", "load", "frame", "outline")


class Machine:
    """Stands in for processes: each takes a second, or what its steps say."""

    def __init__(self, *, refuses: str = "") -> None:
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.empty: list[bool] = []
        self._refuses = refuses

    def timed(self, call: Sequence[str], environment: Mapping[str, str]) -> tuple[float, str]:
        self.calls.append(list(call))
        self.environments.append(dict(environment))
        self.empty.append(not any(Path(folder).exists() for folder in environment.values()))
        if "export" in call:
            if self._refuses in call:
                raise EngineError("exit code 2: error: no such back end")
            folder = f"/store/{call[call.index('--backend') + 1]}"
            return 60.0, json.dumps({"folder": folder, "built": {"seconds": 12.5}})
        if "replay" in call:
            return 1.5, "{}"
        began = start.time.monotonic_ns()
        names = LIVE_ENDS if "benchmarks.start.live_worker" in call else ENDS
        ends = {name: began + (number + 1) * 100_000_000 for number, name in enumerate(names)}
        return 1.0, json.dumps({"ends_ns": ends, "engine": "x", "nerve_px": 1})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(refuses="onnx")
    monkeypatch.setattr(start, "timed", made.timed)
    monkeypatch.setattr(start, "why_not", lambda: "")
    monkeypatch.setattr(start, "streaming", lambda: nullcontext("rtsp://127.0.0.1:8554/live"))
    return made


def test_cold_and_warm_starts_of_every_case(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [
        "--engines",
        "openvino:int8",
        "onnx:fp32",
        "--rounds",
        "2",
        "--cold",
        "1",
        "--out",
        str(tmp_path),
    ]
    start.main(arguments)
    result = json.loads(next(tmp_path.glob("*-start.json")).read_text())
    rows = {(row["start"], row["case"]): row for row in result["rows"]}
    assert set(rows) == {
        (kind, case)
        for kind in ("cold", "warm")
        for case in ("shipped", "replay", "demo", "live", "eager", "openvino:int8")
    }
    assert rows["warm", "shipped"]["starts"] == 2
    assert rows["warm", "shipped"]["ms"]["import"] == {"median": 100, "min": 100, "max": 100}
    assert rows["warm", "replay"]["ms"]["total"]["median"] == 1500
    assert list(rows["warm", "live"]["ms"]) == [*LIVE_ENDS, "total"]
    cold = rows["cold", "openvino:int8"]["ms"]
    assert (cold["build"]["median"], cold["files"]["median"]) == (60_000, 12_500)
    assert cold["total"]["median"] == pytest.approx(60_500, abs=50)
    assert "no such back end" in result["absent"]["onnx:fp32"]
    assert "Absent: onnx:fp32" in capsys.readouterr().out


def test_cold_starts_find_nothing_and_warm_ones_the_engine_that_was_built(
    machine: Machine, tmp_path: Path
) -> None:
    bench = start.Bench([Case("shipped"), Case("compiled:fp32")], tmp_path)
    bench.round("cold", 0)
    cold = len(machine.calls)
    assert all(machine.empty)
    assert all(set(start.CACHES) == set(environment) for environment in machine.environments[:cold])
    bench.round("warm", 0)
    assert machine.calls[cold + 1][3] == "/store/compiled"
    assert "torch" in machine.calls[cold + 1][2]
    assert "PYTHONPYCACHEPREFIX" not in machine.environments[cold]


def test_a_process_that_fails_is_reported_by_its_last_line() -> None:
    with pytest.raises(EngineError, match="exit code 3: because"):
        start.timed(["-c", "import sys; sys.stderr.write('note\\nbecause\\n\\n'); sys.exit(3)"], {})
    seconds, output = start.timed(["-c", "import os; print(os.environ['GIVEN'])"], {"GIVEN": "yes"})
    assert output.strip() == "yes"
    assert seconds > 0


def test_a_process_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "LIMIT_S", 0.2)
    with pytest.raises(EngineError, match="not done after"):
        start.timed(["-c", "import time; time.sleep(60)"], {})


def test_an_unknown_back_end_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        start.parse(["--engines", "caffe:fp32"])
    assert "back ends are openvino" in capsys.readouterr().err


def test_the_real_worker_comes_to_a_mask(tmp_path: Path) -> None:
    bench = start.Bench([Case("shipped")], tmp_path)
    bench.round("warm", 0)
    assert bench.absent == {}
    steps = bench.runs["warm", "shipped"][0]
    assert list(steps) == [*ENDS, "total"]
    assert steps["total"] == pytest.approx(sum(steps[name] for name in ENDS))
    assert min(steps.values()) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["frame.png"]


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a server")
def test_live_comes_to_its_first_outline() -> None:
    steps = start.live({})
    assert list(steps) == [*LIVE_ENDS, "total"]
    assert steps["outline"] > 0
