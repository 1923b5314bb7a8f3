"""The nets' benchmark on fakes that know how slow they are, and on those that stall, hang, fail or lie."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.limits import Kernel
from streamseg.benchmark.nets.bench import Make, NetsOptions, measure_nets
from streamseg.benchmark.nets.measure import FixedOutputEngine, NetMeasurement
from streamseg.benchmark.nets.variants import InputShape, Variant
from streamseg.benchmark.rows.nets import NetRow, Starts
from streamseg.benchmark.rows.reading import COMMON, read_rows
from streamseg.benchmark.rows.run import write_rows
from streamseg.benchmark.terminal import lines
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.errors import EngineError
from streamseg.core.types import Frame
from streamseg.segmentation.segmenter import Segmenter
from tests.benchmark.fakes import SHORT, SPEC, Clock, eager, variant
from tests.benchmark.fakes import FakeNet as Fake

FIGURES = {
    "net", "backend", "precision", "precision_found", "trained", "folded", "height", "width", "batch",
    "engine", "engine_fps", "end_to_end_fps", "latency_ms", "durations_ms", "end_to_end", "paced", "dice",
    "dice_data", "mask_agreement", "probability_difference", "limit_share", "limit_share_spread", "limit",
    "gflop", "gflop_per_s", "ratio_to_eager", "model_bytes", "peak_host_bytes", "peak_gpu_bytes",
    "start_s", "calls", "energy_j_per_frame",
}  # fmt: skip


@pytest.fixture
def measure(clip_path: Path) -> Callable[..., list[NetRow]]:
    def run(variants: Sequence[Variant] | Make, **options: Any) -> list[NetRow]:
        regime = replace(SHORT, **options.pop("regime", {}))
        make: Any = variants if callable(variants) else lambda *_: (list(variants), {})
        kernel = options.pop("kernel", Kernel("product", "fp32", 1e9, lambda: time.sleep(0.01)))
        usual = {"nets": ("improved_unet",), "sizes": ((32, 48),)}
        given = NetsOptions(threads=1, source=str(clip_path), regime=regime, **usual | options)
        return measure_nets(given, lambda line: None, make=make, kernels=[kernel])

    return run


Measure = Callable[..., list[NetRow]]


def counted(fake: Fake, row: NetRow) -> list[list[int]]:
    """The fake's own record of the calls that count: behind 2 of warm-up, and 1 before each block."""
    position, found = 2, []
    for block in row.durations_ms:
        found.append(fake.took_ns[position + 1 : position + 1 + len(block)])
        position += 1 + len(block)
    return found


def test_known_delays_are_measured_within_two_percent(measure: Measure) -> None:
    slow, quick = Fake(delay_ms=40, name="eager"), Fake(delay_ms=20, found={"int8": 0.9, "fp32": 0.1})
    rows = measure([eager(slow), variant(quick, precision="int8")])
    assert [row.key for row in rows] == [
        "improved_unet eager fp32 as trained 32x48 b1",
        "improved_unet openvino int8 32x48 b1",
    ]
    blocks = []
    for fake, row, delay_ms in zip((slow, quick), rows, (40, 20), strict=True):
        own = [ns / 1e6 for block in counted(fake, row) for ns in block]
        flat = [ms for block in row.durations_ms for ms in block]
        # Its own record lies within what was measured; a busy machine stretches some calls, not all.
        over = [ms - inside for ms, inside in zip(flat, own, strict=True)]
        assert min(over) > -0.001
        assert min(over) < 0.02 * delay_ms
        assert row.calls == len(flat)
        assert row.engine_fps == pytest.approx(1e3 * len(flat) / sum(flat), rel=1e-3)
        assert row.latency_ms.p50 == pytest.approx(np.median(flat), rel=1e-3)
        assert row.latency_ms.max == max(flat)
        blocks.append([np.median(block) for block in row.durations_ms])
        assert row.rounds["engine_ms"] == pytest.approx(blocks[-1], rel=1e-3)
        assert row.end_to_end_fps == pytest.approx(row.engine_fps, rel=0.9)
    expected = np.median(np.divide(blocks[0], blocks[1]))
    assert rows[1].ratio_to_eager.median == pytest.approx(expected, rel=1e-3)
    assert rows[0].ratio_to_eager.median == 1


def test_a_row_has_all_its_figures(measure: Measure, tmp_path: Path) -> None:
    rows = measure([eager(), variant(Fake())], regime={"paces_fps": (30.0,)})
    write_rows(tmp_path / "rows.json", rows)
    for row in read_rows(tmp_path / "rows.json"):
        assert isinstance(row, NetRow)
        assert row.to_json().keys() == {*COMMON, *FIGURES}
        assert row.bench == "nets"
        assert row.engine.from_ == "built"
        assert row.end_to_end.offered == row.end_to_end.processed > 0
        assert {"decode", "preprocess", "infer", "postprocess"} <= set(row.end_to_end.stages_ms)
        assert [run.fps for run in row.paced] == [30.0]
        assert row.paced[0].offered == 6
        assert 0 <= row.dice <= 1
        assert row.mask_agreement == 1
        assert row.limit.kernel == "product"
        assert row.limit_share == row.limit_share_spread.median
        assert row.start_s == Starts(build=1.5)
        usual = ("limit", "times", "ignores its input", "held up")  # the last on a busy machine
        assert all(any(words in note for words in usual) for note in row.notes)
    run = rows[0].run
    assert run.regime["warmup_calls"] == 2
    assert run.limits["fp32"].kernel == "product"
    assert run.stopped is False
    text = "\n".join(lines(rows))
    assert "| torch eager FP32, as trained |" in text
    assert "on 2 phantoms" in text
    json.dumps([row.to_json() for row in rows])


def test_a_quick_run_spares_paces_above_one_that_is_too_fast(measure: Measure) -> None:
    paces = {"paces_fps": (30.0, 60.0), "all_paces": False}
    slow, quick = measure([eager(Fake(delay_ms=50)), variant(Fake(delay_ms=2))], regime=paces)
    assert [run.fps for run in slow.paced] == [30.0]
    assert slow.paced[0].offered == 6
    assert quick.latency_ms.p50 > 1e3 / 30 or [run.fps for run in quick.paced] == [30.0, 60.0]


class OnClock(Fake):
    """Takes the seconds of each call on a clock of its own, and no time on the machine's."""

    def __init__(self, clock: Clock, seconds: float, **options: Any) -> None:
        super().__init__(delay_ms=0, **options)
        self._clock, self._seconds = clock, seconds

    def infer(self, tensor: Any) -> Any:
        self._clock.ns += round(self._seconds * 1e9)
        return super().infer(tensor)


def run_on_clock(
    measure: Measure, call_s: float, total_s: float, **regime: Any
) -> tuple[list[NetRow], float]:
    """The rows of two nets, each in eager and in a variant twice as fast, and the seconds that it took.

    An engine takes ten calls' time to be built."""
    clock = Clock()

    def make(shape: InputShape, limit: TimeLimit) -> tuple[list[Variant], dict[str, str]]:
        made, absent = [], {}
        for spec, seconds in (("eager", call_s), ("openvino", call_s / 2)):
            if limit.fits():
                clock.ns += round(10 * call_s * 1e9)
                engine = OnClock(clock, seconds, name=spec)
                made.append(replace(variant(engine, spec, folded=spec != "eager"), shape=shape))
            else:
                absent[f"{shape.net} {spec}"] = TOO_LATE
        return made, absent

    rows = measure(
        make,
        kernel=Kernel("product", "fp32", 1e9, clock.work(100 * call_s)),
        nets=("improved_unet", "unet"),
        limit=TimeLimit(total_s, clock_ns=clock),
        regime={"rounds": 5, "least_rounds": 3, "budget_seconds": 30.0, "end_to_end_seconds": 0.0, **regime},
    )
    return rows, clock.ns / 1e9


# A round takes 1 + 4 calls of either variant, 7.5 times the first one's.
@pytest.mark.parametrize("call_s", [0.001, 0.2, 0.5, 1.0, 2.0])
def test_it_ends_in_time_however_slow_the_machine_is(measure: Measure, call_s: float) -> None:
    rows, took_s = run_on_clock(measure, call_s, 100.0)
    assert took_s <= 100 + 10 * call_s  # a step that has begun goes on
    assert rows
    for row in rows:
        rounds = len(row.durations_ms)
        words = f"measured in {rounds} of 5 rounds: the run was to end in time"
        assert (words in row.notes) == (rounds < 3)
        assert row.run.regime["total_seconds"] == 100
    absent = rows[0].run.absent
    assert set(absent.values()) <= {TOO_LATE}
    named = {row.net for row in rows} | {key.split()[0] for key in absent}
    assert named - {"product"} == {"improved_unet", "unet"}
    if call_s <= 0.5:
        assert len(rows) == 4
        assert all(len(row.durations_ms) >= 3 for row in rows)


def test_a_slow_machine_is_given_fewer_images_and_no_live_runs(measure: Measure) -> None:
    rows, took_s = run_on_clock(measure, 1.5, 150.0, paces_fps=(30.0,), paced_seconds=20.0, images=16)
    assert took_s <= 150
    assert "not run live at 30 frames/s: the run was late" in rows[0].notes
    assert rows[0].paced == []
    notes = [note for note in rows[0].notes if "of 16 images: the run was to end in time" in note]
    assert len(notes) == 1
    assert notes[0].startswith("compared with FP32 on ")
    assert 1 <= int(notes[0].split()[4]) < 16
    assert rows[0].dice is None  # of fewer images it would be another figure
    assert rows[0].mask_agreement is not None


def test_if_there_is_no_time_at_all_it_says_so(measure: Measure) -> None:
    with pytest.raises(EngineError, match=f"no net could be measured: {TOO_LATE}"):
        run_on_clock(measure, 30.0, 10.0)


def test_time_is_divided_by_what_nets_take(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the points before took: building is within a point's time."""
    given: list[float] = []

    def run(variants: Any, context: Any, limit: TimeLimit) -> Any:
        given.append(limit.left_s)
        return NetMeasurement(variants, context)

    monkeypatch.setattr("streamseg.benchmark.nets.bench.NetMeasurement", run)
    measure(
        lambda *_: ([eager()], {}),
        nets=("unet", "segnet"),
        sizes=((32, 64),),
        regime={"total_seconds": 1300.0},
    )
    assert given[0] == pytest.approx(1300 * 4 / 13, rel=0.1)
    assert given[1] == pytest.approx(1300, rel=0.1)


def test_if_time_is_short_only_the_fastest_kernels_are_timed_again(clip_path: Path) -> None:
    calls = Counter[str]()

    def kernel(name: str, kind: str, seconds: float) -> Kernel:
        return Kernel(name, kind, 1e9, lambda: (calls.update([name]), time.sleep(seconds)))

    kernels = [kernel("slow", "fp32", 0.1), kernel("fast", "fp32", 0.001), kernel("copy", "copy", 0.001)]
    seen: list[Counter[str]] = []

    def make(shape: InputShape, limit: TimeLimit) -> tuple[list[Variant], dict[str, str]]:
        seen.append(calls.copy())
        return [replace(eager(), shape=shape)], {}

    options = NetsOptions(
        threads=1, source=str(clip_path), regime=replace(SHORT, total_seconds=600.0), nets=("unet",),
        sizes=((32, 48), (32, 64)),
    )  # fmt: skip
    rows = measure_nets(options, lambda _: None, make=make, kernels=kernels)
    assert {row.limit.kernel for row in rows} == {"fast"}
    assert set(rows[0].run.limits) == {"fp32", "copy"}
    again = calls - seen[1]
    assert again["fast"] > 0
    assert again["slow"] == again["copy"] == 0


def test_one_that_takes_no_time_is_measured(measure: Measure) -> None:
    """Faster than the last digit that is kept."""

    class Immediate(Fake):
        def infer(self, tensor: Any) -> Any:
            return None

    row = measure([eager(), variant(Immediate())])[1]
    assert row.engine_fps > 0
    assert row.end_to_end_fps is None


def test_one_stall_shows_in_the_tail_and_in_a_note(measure: Measure) -> None:
    fake = Fake(delay_ms=5)
    fake.before = lambda call: time.sleep(0.25) if call == 4 else None
    row = measure([eager(), variant(fake)])[1]
    durations = [ms for block in row.durations_ms for ms in block]
    assert row.latency_ms.max == max(durations) >= 250
    assert row.latency_ms.p99 > row.latency_ms.p50
    assert row.engine_fps == pytest.approx(1e3 * len(durations) / sum(durations), rel=0.02)
    assert any("times the median" in note for note in row.notes) == (
        row.latency_ms.max > 20 * row.latency_ms.p50
    )


@pytest.mark.parametrize("call", [0, 9])
def test_one_that_hangs_is_absent_and_the_others_stand(measure: Measure, call: int) -> None:
    released = threading.Event()
    fake = Fake()
    fake.before = lambda number: None if number < call else released.wait()  # type: ignore[assignment]
    try:
        rows = measure([eager(), variant(fake)], regime={"stall_seconds": 1.5})
    finally:
        released.set()
    assert [row.backend for row in rows] == ["eager"]
    absent = rows[0].run.absent
    assert list(absent) == ["improved_unet openvino fp32 32x48 b1"]
    assert "no answer within" in absent["improved_unet openvino fp32 32x48 b1"]
    assert not fake.closed
    assert "Absent: improved_unet openvino fp32" in "\n".join(lines(rows))


def test_one_that_fails_is_absent_and_the_others_stand(measure: Measure) -> None:
    rows = measure([eager(), variant(Fake(fail_at=0), precision="int8"), variant(Fake())])
    assert [row.precision for row in rows] == ["fp32", "fp32"]
    assert "failed at call 0" in rows[0].run.absent["improved_unet openvino int8 32x48 b1"]


def test_one_that_answers_no_probability_has_no_pipeline_and_says_so(measure: Measure) -> None:
    row = measure([eager(), variant(Fake(probability=7.0))])[1]
    assert row.engine_fps > 0
    written = row.to_json()
    assert written["end_to_end"] is row.end_to_end_fps is row.dice is None
    assert row.paced == []
    assert any("end to end" in note and "no probabilities" in note for note in row.notes)


def test_lies_about_precision_show(measure: Measure) -> None:
    other = lambda: FakeBackend(SPEC, 0.25).infer(np.zeros((1, 1, 32, 48), np.float32))  # noqa: E731
    rows = measure(
        [
            eager(),
            variant(Fake(found={"fp32": 1.0}, probability=other()), precision="int8"),
            variant(Fake(found={"int8": 1.0}), "onnx", "int8"),
            variant(Fake(found={"int8": 0.96, "fp32": 0.04}, probability=other()), "compiled", "int8"),
            variant(Fake(found={}, probability=other()), "tensorrt", "fp16"),
        ]
    )
    notes = {row.backend: " ".join(row.notes) for row in rows}
    assert "asked for int8, computes in fp32 (100% of its layers)" in notes["openvino"]
    assert "bit for bit those of improved_unet eager fp32 as trained" in notes["onnx"]
    assert "asked for" not in notes["compiled"] + notes["eager"]
    assert "does not tell" in notes["tensorrt"]


def test_a_gpus_engines_have_its_limits_and_its_reference(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[None] = []
    monkeypatch.setattr("streamseg.benchmark.nets.bench.gpu_synchronize", lambda: lambda: waits.append(None))
    plain = variant(Fake(delay_ms=30, name="plain"), "eager-cuda", folded=False)
    found = {"int8": 1.0}
    variants = [eager(), plain, variant(Fake(found=found), "tensorrt", "int8"), variant(Fake(found=found))]
    names = {"GPU product fp16": "gpu fp16", "GPU product fp32": "gpu fp32", "slow product": "fp32"}
    kernels = [Kernel(name, kind, 1e6, lambda: time.sleep(0.02)) for name, kind in names.items()]
    options = NetsOptions(
        threads=1, source=str(clip_path), regime=SHORT, nets=("improved_unet",), sizes=((32, 48),)
    )  # fmt: skip
    rows = measure_nets(options, lambda _: None, make=lambda *_: (variants, {}), kernels=kernels)
    assert [row.limit.kernel for row in rows] == [
        "slow product", "GPU product fp32", "GPU product fp16", "slow product",
    ]  # fmt: skip
    assert rows[2].limit.kind == "fp16"
    assert rows[2].limit_share > 1
    assert any("times as fast as the limit" in note for note in rows[2].notes)
    medians = [np.array(row.rounds["engine_ms"]) for row in rows]
    for number, reference in ((2, 1), (3, 0)):
        expected = np.median(medians[reference] / medians[number])
        assert rows[number].ratio_to_eager.median == pytest.approx(expected, rel=0.01)
    assert set(rows[0].run.limits) == {"fp32", "gpu fp16", "gpu fp32"}
    assert waits


def test_a_batch_counts_all_its_frames(measure: Measure) -> None:
    trained, folded = eager(Fake(batch=3)), variant(Fake(batch=3))
    rows = measure([trained, folded], batches=(3,))
    for row in rows:
        durations = [ms for block in row.durations_ms for ms in block]
        assert row.engine_fps == pytest.approx(3e3 * len(durations) / sum(durations), rel=0.02)
        assert row.to_json()["end_to_end"] is row.end_to_end_fps is None
        assert row.paced == []
        assert row.dice is not None


def test_random_weights_are_compared_only_with_fp32(measure: Measure) -> None:
    noise = np.random.default_rng(0).random((32, 48), np.float32)
    rows = measure([replace(one, trained=False) for one in (eager(), variant(Fake(probability=noise)))])
    for row in rows:
        assert row.trained is False
        assert row.dice is row.mask_agreement is None
    assert rows[1].probability_difference > 0.1
    assert "(random weights)" in "\n".join(lines(rows))


def test_ctrl_c_keeps_what_is_finished(measure: Measure) -> None:
    made: list[InputShape] = []

    def make(shape: InputShape, limit: TimeLimit) -> tuple[list[Variant], dict[str, str]]:
        made.append(shape)
        if len(made) == 2:
            raise KeyboardInterrupt
        return [replace(eager(), shape=shape)], {"unet onnx int8 32x48 b1": "not installed"}

    rows = measure(make, nets=("unet", "improved_unet"))
    assert [row.net for row in rows] == ["unet"]
    run = rows[0].run
    assert run.stopped is True
    assert run.absent == {
        "unet onnx int8 32x48 b1": "not installed",
        "improved_unet 32x48 b1": "the benchmark was stopped before this was done",
    }
    made.pop()
    with pytest.raises(KeyboardInterrupt):  # nothing was finished
        measure(make, nets=("segnet",), sizes=((32, 64),))


def test_nothing_at_all_is_an_error(measure: Measure) -> None:
    with pytest.raises(EngineError, match=r"no net could be measured: .*failed at call 0"):
        measure([variant(Fake(fail_at=0))])

    def make(shape: InputShape, limit: TimeLimit) -> tuple[list[Variant], dict[str, str]]:
        raise EngineError("weights are gone")

    with pytest.raises(EngineError, match="weights are gone"):
        measure(make)


@pytest.mark.parametrize("structures", [("nerve",), ("nerve", "vessel")])
def test_a_net_of_random_weights_is_given_a_nerve_and_nothing_else(structures: tuple[str, ...]) -> None:
    engine = FixedOutputEngine(FakeBackend(replace(SPEC, structures=structures)))
    found = Segmenter(engine, None).segment(Frame(np.full((96, 128), 90, np.uint8), 0, 0))
    assert found.area_px > 0
    assert {name: one.area_px for name, one in found.others.items()} == dict.fromkeys(structures[1:], 0)
