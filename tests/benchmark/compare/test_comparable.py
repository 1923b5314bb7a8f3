"""What of two runs differs is said; what always differs is not."""

from __future__ import annotations

from typing import Any

import pytest

from streamseg.benchmark.compare.comparable import differences, engines_differ, machine_ratio
from tests.benchmark.compared import row, run


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
    assert differences({}, {}) == []
    assert differences(run(), {}) == ["B does not say on what machine and how it was measured"]


def test_long_values_are_cut() -> None:
    (line,) = differences(run(), run(machine={"features": ["feature"] * 100}))
    assert len(line) < 200


def test_engines() -> None:
    a, b = (row(engine={"name": "e", "sha256": sha}) for sha in ("1", "2"))
    assert engines_differ(a, b)
    assert not engines_differ(a, a)
    assert not engines_differ(a, row())


def test_the_machines_own_change() -> None:
    limits = [{"fp32": {"giga_per_s": fp32}, "int8": {"giga_per_s": 4 * fp32}} for fp32 in (200, 100)]
    a, b = (row(of=run(limits=limit)) for limit in limits)
    assert machine_ratio(a, b) == 0.5
    own = {"kind": "int8", "giga_per_s": 90.0, "kernel": "chain"}
    assert machine_ratio({**a, "limit": own}, {**b, "limit": {**own, "giga_per_s": 99.0}}) == pytest.approx(
        1.1
    )
    assert machine_ratio({**a, "limit": own}, {**b, "limit": {**own, "kind": "fp32"}}) == 0.5
    assert machine_ratio(row(), b) is None
    assert machine_ratio(row(of=run(limits={"fp32": None})), row(of=run(limits={"fp32": 3}))) is None
