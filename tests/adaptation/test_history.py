"""The history of an adaptation: which round is in use, and what an undo goes back to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamseg.adaptation.history import History, Plan, Round
from streamseg.adaptation.report import curve_line, curve_points
from streamseg.core.errors import DataError, UsageError


def make_round(number: int, *, accepted: bool = True, trained: int = 40, after: float = 0.7) -> Round:
    nerve = {
        "structure": "nerve",
        "before": 0.42,
        "after": after,
        "after_interval": [after - 0.1, after + 0.1],
    }
    return Round(
        number=number,
        date="2026-11-30T12:00:00Z",
        base="default",
        images=trained + 10,
        trained=trained,
        subjects=5,
        minutes=7.5,
        engine=f"engine-{number}",
        figures={"structures": [nerve]},
        accepted=accepted,
        reasons=() if accepted else ("it is worse",),
    )


def make_history(folder: Path, *accepted: bool) -> History:
    history = History(folder)
    for number, good in enumerate(accepted, start=1):
        history = history.with_round(make_round(number, accepted=good))
    return history


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = make_history(tmp_path, True, False)
    history.write()
    read = History.read(tmp_path)
    assert read.in_use == 1
    assert [(one.number, one.engine, one.accepted) for one in read.rounds] == [
        (1, "engine-1", True),
        (2, "engine-2", False),
    ]
    assert read.next_number == 3
    assert History.read(tmp_path / "none").rounds == ()


def test_only_accepted_rounds_are_used_and_undone(tmp_path: Path) -> None:
    history = make_history(tmp_path, True, False, True)
    assert history.current == history.rounds[2]
    assert history.before().in_use == 1
    assert history.before().before().in_use is None
    assert history.before().before().next_number == 4
    with pytest.raises(UsageError, match="nothing to undo"):
        history.before().before().before()


@pytest.mark.parametrize(
    "change", [{"format": "x"}, {"in_use": 7}, {"rounds": [{}]}, {"rounds": 3}, {"rounds": ["x"]}]
)
def test_a_damaged_history_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    make_history(tmp_path, True).write()
    path = tmp_path / "history.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"history\.json is damaged"):
        History.read(tmp_path)


def test_a_plan_is_resumed_by_the_same_request_only(tmp_path: Path) -> None:
    plan = Plan("default", "a" * 64, "b" * 16, 30.0, {"seed": 0, "epochs": 7}, "2026-11-30T12:00:00Z")
    plan.write(tmp_path)
    stored = Plan.read(tmp_path)
    assert stored is not None
    assert stored.same_request(replace(plan, config={"seed": 0, "epochs": 1}))
    for other in (
        replace(plan, data="c"),
        replace(plan, base_sha256="c"),
        replace(plan, minutes=31.0),
        replace(plan, config={"seed": 1}),
    ):
        assert not stored.same_request(other)
    (tmp_path / "plan.json").write_text("{")
    assert Plan.read(tmp_path) is None


def test_the_curve_says_whether_it_still_rises(tmp_path: Path) -> None:
    history = History(tmp_path).with_round(make_round(1, trained=20, after=0.61))
    assert curve_line(history).startswith("learning curve: 20 frames 0.610; select and label more")
    rising = history.with_round(make_round(2, trained=40, after=0.70))
    assert curve_line(rising).endswith(
        "40 frames 0.700 (+0.090); it still rises: select and label more frames"
    )
    flat = rising.with_round(make_round(3, trained=80, after=0.705))
    assert curve_line(flat).endswith("(+0.005); it is flat")
    assert curve_points(flat)[0][:2] == (20, 0.61)
