"""Two results: rows find each other, and what got worse comes first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamseg.benchmark.compare.bench import compare, lines
from streamseg.benchmark.compare.spread import BETTER, SAME, UNCLEAR, WORSE
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


def test_for_machines() -> None:
    values = json.loads(json.dumps(finite(compare([row()], [row(ms=slower(1.3))]).to_json())))
    assert values["counts"][WORSE] == 1
    (figure,) = values["figures"]
    assert figure["verdict"] == WORSE
    assert "change" not in figure
    assert figure["ratio"] == pytest.approx(1.3)
    assert figure["low"] < 1.3 < figure["high"]
    assert (figure["bench"], figure["key"], figure["figure"]) == ("nets", "net openvino int8", "engine_ms")
    assert figure["rounds"] == [5, 5]


def rate(frames: list[float], limit: float, **others: Any) -> dict[str, Any]:
    made = row(of=run(limits={"fp32": {"giga_per_s": limit}}), **others)
    return {**made, "rounds": {"processed_fps": frames, "peak_bytes": [100.0] * 3}}


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


def test_turns_are_compared_in_pairs() -> None:
    a, b = row(ms=[10.0, 15.0, None, 8.0]), row(ms=[11.0, 16.6, 10.0, 8.75])
    assert compare([a], [b]).counts[UNCLEAR] == 1
    found = compare([{**a, "limit_share": 0.5}], [{**b, "limit_share": 0.1}], paired=True)
    assert len(found.findings) == 1
    assert found.counts[WORSE] == 1
    assert found.findings[0].rounds == (3, 3)
    assert found.findings[0].change.ratio == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(), row()], "two rows of nets net openvino int8"),
        ([{**row(), "run": None}], "damaged"),
        ([{**row(), "rounds": [1, 2]}], "damaged"),
    ],
)
def test_what_cannot_be_compared(rows: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        compare([row("a")], rows)


def test_damaged_figures_do_no_harm() -> None:
    strange = {**row(), "rounds": {"engine_ms": "fast", "fps": [None, "1", True], "count": [1]}}
    found = compare([strange], [strange])
    assert found.counts == {WORSE: 0, BETTER: 0, SAME: 0, UNCLEAR: 2}
    assert {finding.change.why for finding in found.findings} == {"not measured in both"}
