"""Two results: rows are matched, what got worse comes first, and what makes them incomparable is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamseg.benchmark.compare.bench import compare, differences, lines, machine_ratio
from streamseg.benchmark.compare.verdict import BETTER, SAME, UNCLEAR, WORSE
from streamseg.benchmark.rows.run import Row, RunInfo
from streamseg.core.errors import DataError
from streamseg.core.files import finite
from tests.benchmark.compared import row, run, slower


def test_the_same_result_has_not_changed() -> None:
    rows = [row(dice=0.9, model_bytes=1000), row("other")]
    found = compare(rows, rows)
    assert found.counts == {WORSE: 0, BETTER: 0, SAME: 4, UNCLEAR: 0}
    assert not found.worse
    assert lines(found) == ["4 figures compared: 0 worse, 0 better, 4 the same, 0 unclear"]


def test_what_got_worse_comes_first() -> None:
    a = [row("x", dice=0.9), row("y"), row("z"), row("u"), row("v", slower(1, (1, 2)))]
    b = [
        row("x", slower(0.7), dice=0.8),
        row("y", slower(1.2)),
        row("z", slower(1.5)),
        row("u"),
        row("v", slower(1, (1, 2.1))),
    ]
    found = compare(a, b)
    assert found.worse
    assert [(one.key, one.figure, one.change.verdict) for one in found.findings] == [
        ("z", "engine_ms", WORSE),
        ("y", "engine_ms", WORSE),
        ("x", "dice", WORSE),
        ("v", "engine_ms", UNCLEAR),
        ("x", "engine_ms", BETTER),
        ("u", "engine_ms", SAME),
    ]
    text = lines(found)
    assert text[-1] == "6 figures compared: 3 worse, 1 better, 1 the same, 1 unclear"
    worst = next(line for line in text if "nets z" in line)
    assert "+50.0 %" in worst
    assert worst.endswith("| slower |")
    assert "| faster |" in next(line for line in text if "nets x | engine_ms" in line)
    assert "| worse |" in next(line for line in text if "nets x | dice" in line)
    assert "unclear: fewer than 3 rounds" in next(line for line in text if "nets v" in line)
    assert not [line for line in text if "nets u" in line]


def test_the_comparison_as_json() -> None:
    values = json.loads(json.dumps(finite(compare([row()], [row(ms=slower(1.3))]).to_json())))
    assert values["counts"][WORSE] == 1
    (figure,) = values["figures"]
    assert figure["verdict"] == WORSE
    assert "change" not in figure
    assert figure["ratio"] == pytest.approx(1.3)
    assert figure["low"] < 1.3 < figure["high"]
    assert (figure["bench"], figure["key"], figure["figure"]) == ("nets", "net openvino int8", "engine_ms")
    assert figure["rounds"] == [5, 5]


def rate(frames: list[float], limit: float, **others: Any) -> Row:
    rounds = {"processed_fps": frames, "peak_bytes": [100.0] * 3}
    return row(of=run(limits={"fp32": {"giga_per_s": limit}}), bench="streams", rounds=rounds, **others)


def test_the_machines_drift_is_set_off_where_it_has_a_part() -> None:
    found = compare([rate([50.0] * 3, 200)], [rate([40.0] * 3, 160)])
    assert found.counts[WORSE] == 0
    drifted, memory = found.findings
    assert drifted.change.why == "the machine itself was 20 % slower"
    assert drifted.change.relative == pytest.approx(1.0)
    assert memory.change.verdict == SAME
    paced = compare([rate([30.0] * 3, 200, source_fps=30)], [rate([24.0] * 3, 160, source_fps=30)])
    assert paced.counts[WORSE] == 1


def test_rows_that_one_result_lacks_are_named() -> None:
    b = [row("y", of=run(absent={"x": "it hung", "never": "not here"})), row("new")]
    found = compare([row("x"), row("y"), row("w")], b)
    assert found.lost == {"nets x": "it hung"}
    assert found.only_a == ("nets w",)
    assert found.only_b == ("nets new",)
    assert found.worse
    text = "\n".join(lines(found))
    assert "not measured in B: nets x: it hung" in text
    assert "only in A: nets w" in text
    assert "only in B: nets new" in text


def test_rows_of_another_benchmark_are_others() -> None:
    found = compare([row("x")], [row("x", bench="streams")])
    assert found.findings == ()
    assert "no row in common" in lines(found)[0]


def test_warnings_say_of_how_many_rows() -> None:
    other = run(threads=1)
    found = compare([row("x"), row("y")], [row("x", of=other), row("y", of=other)])
    assert found.warnings == ("how it was measured differs: threads 2 -> 1",)
    found = compare([row("x"), row("y")], [row("x", of=other), row("y")])
    assert found.warnings == ("how it was measured differs: threads 2 -> 1 (1 of 2 rows)",)
    engines = [row("x", engine={"sha256": sha}) for sha in "ab"]
    assert compare(engines[:1], engines[1:]).warnings == ("the engine differs in 1 of 1 rows: nets x",)


def test_two_rows_of_one_name_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="two rows of nets net openvino int8"):
        compare([row("a")], [row(), row()])


def test_damaged_figures_do_no_harm() -> None:
    strange = row(rounds={"engine_ms": "fast", "fps": [None, "1", True], "count": [1]})
    found = compare([strange], [strange])
    assert found.counts == {WORSE: 0, BETTER: 0, SAME: 0, UNCLEAR: 2}
    assert {finding.change.why for finding in found.findings} == {"not measured in both"}


def test_a_slow_machine_excuses_no_wrong_masks() -> None:
    slow = run(limits={"fp32": {"giga_per_s": 50}})
    found = compare([row(dice=0.9, of=run(limits={"fp32": {"giga_per_s": 100}}))], [row(dice=0.8, of=slow)])
    assert {one.figure: one.change.verdict for one in found.findings}["dice"] == WORSE


LATENCY = {"p50": 10.0, "p95": 11.0, "p99": 12.0, "max": 30.0}


def bare(**figures: Any) -> Row:
    return row(rounds={}, **figures)


def verdicts(a: Row, b: Row) -> dict[str, str]:
    return {found.figure: found.change.verdict for found in compare([a], [b]).findings}


def scaled(times: float) -> Row:
    latency = {name: ms * times for name, ms in LATENCY.items()}
    return bare(engine_fps=100 / times, end_to_end_fps=80 / times, latency_ms=latency)


@pytest.mark.parametrize(
    ("times", "median", "tail"),
    [
        (1.0, SAME, SAME),
        (1.05, UNCLEAR, UNCLEAR),
        (1.1, WORSE, UNCLEAR),
        (1.5, WORSE, WORSE),
        (0.85, BETTER, UNCLEAR),
        (0.5, BETTER, BETTER),
    ],
)
def test_rows_without_rounds_are_compared_by_their_values(times: float, median: str, tail: str) -> None:
    assert verdicts(scaled(1), scaled(times)) == {
        "engine_fps": median,
        "end_to_end_fps": median,
        "latency_ms p50": median,
        "latency_ms p95": tail,
        "latency_ms p99": tail,
    }


def test_slower_is_said_of_times_and_rates() -> None:
    words = {found.figure: found.words for found in compare([scaled(1)], [scaled(2)]).findings}
    assert set(words.values()) == {"slower"}
    assert {found.words for found in compare([scaled(2)], [scaled(1)]).findings} == {"faster"}


def test_a_figure_that_is_no_longer_measured_is_worse_and_a_missing_key_is_passed_over() -> None:
    found = compare([bare(engine_fps=10.0)], [bare(engine_fps=None)])
    assert [one.words for one in found.findings] == ["unclear: not measured in B"]
    assert found.worse
    assert compare([row(engine_fps=10.0)], [row(engine_fps=None)]).worse  # whatever its rounds are
    assert not compare([bare(engine_fps=None)], [bare(engine_fps=10.0)]).worse
    passed = compare([bare(engine_fps=10.0, dice=0.9)], [bare()])
    assert passed.findings == ()
    assert not passed.worse


def test_rounds_speak_for_their_value() -> None:
    a = row(engine_fps=100.0, latency_ms=LATENCY)
    b = row(engine_fps=97.0, latency_ms={**LATENCY, "p50": 10.2})
    assert verdicts(a, b) == {"engine_ms": SAME}


@pytest.mark.parametrize("strange", ["fast", [1, None], {"p50": "x"}, 10**400, float("nan"), True, -1.0, 0])
def test_damaged_values_do_no_harm(strange: object) -> None:
    values = {"engine_fps": strange, "latency_ms": strange, "durations_ms": strange, "batch": strange}
    compare([scaled(1)], [bare(**values)])
    compare([bare(**values)], [scaled(1)])
    compare([row(**values)], [bare(**values)])


def test_the_same_program_again() -> None:
    again = run(
        date="2026-11-23",
        machine={"load": 3.0, "commit": "def"},
        source={"name": "phantom", "uri": "/tmp/b/phantom.mp4", "frames": 64},
    )
    assert differences(run(), again) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"machine": {"cores": 4}}, "the machine differs: cores 2 -> 4"),
        ({"machine": {"gpu": "H200"}}, "the machine differs: gpu unknown -> H200"),
        ({"machine": {"openvino": "2027.0"}}, "the software differs: openvino 2026.4.1 -> 2027.0"),
        (
            {"machine": {"power": {"governor": "powersave", "supply": "mains"}}},
            "the power state differs: governor performance -> powersave",
        ),
        ({"source": None}, "the source differs: frames 64 -> unknown, name phantom -> unknown"),
        ({"threads": 1}, "how it was measured differs: threads 2 -> 1"),
        ({"regime": {"rounds": 3, "paces_fps": [30, 60]}}, "how it was measured differs: rounds 5 -> 3"),
        ({"stopped": True}, "run B was stopped before its end"),
        ({"others_share": 0.35}, "others took 35 % of the machine in B"),
    ],
)
def test_what_differs(changes: dict[str, Any], line: str) -> None:
    assert differences(run(), run(**changes)) == [line]


def test_a_gpu_whose_clocks_were_held_down() -> None:
    powers = [{"gpu": {"power_limit_w": 700.0, "slowed_by": slowed}} for slowed in ([], ["power cap"])]
    a, b = (run(machine={"power": power}) for power in powers)
    assert differences(a, b) == ["the power state differs: slowed_by [] -> ['power cap']"]


def test_a_run_that_does_not_say_where_it_is_from() -> None:
    assert differences(RunInfo(), RunInfo()) == []
    assert differences(run(), RunInfo()) == ["B does not say on what machine and how it was measured"]


def test_long_values_are_cut() -> None:
    (line,) = differences(run(), run(machine={"features": ["feature"] * 100}))
    assert len(line) < 200


def test_engines_that_are_not_known_do_not_differ() -> None:
    known = row(engine={"name": "e", "sha256": "1"})
    assert compare([known], [known]).warnings == compare([known], [row()]).warnings == ()


def test_the_machines_own_change() -> None:
    limits = [{"fp32": {"giga_per_s": fp32}, "int8": {"giga_per_s": 4 * fp32}} for fp32 in (200, 100)]
    before, after = (run(limits=limit) for limit in limits)
    a, b = row(of=before), row(of=after)
    assert machine_ratio(a, b) == 0.5
    own = {"kind": "int8", "giga_per_s": 90.0, "kernel": "chain"}
    faster = {**own, "giga_per_s": 99.0}
    assert machine_ratio(row(of=before, limit=own), row(of=after, limit=faster)) == pytest.approx(1.1)
    other = {**own, "kind": "fp32"}
    assert machine_ratio(row(of=before, limit=own), row(of=after, limit=other)) == 0.5
    assert machine_ratio(row(), b) is None
    assert machine_ratio(row(of=run(limits={"fp32": None})), row(of=run(limits={"fp32": 3}))) is None
