"""What each part of ``make bench`` may take: all of it ends in time where the nets took long."""

from __future__ import annotations

import pytest

from benchmarks.bench_time import BLOCKS, FIXED_S, LEAST_S, NETS_S, PACED_S, PEERS_S, TOTAL_S, Spent, limited


def run(nets_s: float) -> tuple[float, dict[str, list[str]]]:
    """Seconds of it all on a machine on which the nets take so long, and the options of each part."""
    spent, given = Spent(), {}
    slow = nets_s / NETS_S
    for bench in ("nets", "peers", "pipeline", "streams"):
        given[bench] = options = limited(bench, spent)
        if bench == "nets":
            seconds = nets_s
        elif bench == "peers":
            seconds = slow * PEERS_S[3 if options else 5]
        else:
            block = float(options[options.index("--seconds") + 1]) if options else PACED_S[bench]
            assert block >= LEAST_S
            seconds = slow * FIXED_S[bench] + BLOCKS * block
        assert "--rounds" not in options or options[options.index("--rounds") + 1] == "3"
        spent.add(bench, seconds)
    return spent.all + slow * FIXED_S["report"], given


def test_a_fast_machine_measures_all() -> None:
    seconds, given = run(120.0)
    assert given == {"nets": [], "peers": [], "pipeline": [], "streams": []}
    assert seconds < TOTAL_S


@pytest.mark.parametrize("nets_s", [150.0, 200.0, 230.0, 261.0, 290.0])
def test_it_ends_in_time(nets_s: float) -> None:
    assert run(nets_s)[0] < TOTAL_S + 10


@pytest.mark.parametrize("nets_s", [310.0, 330.0])
def test_a_slow_machine_stays_under_ten_minutes(nets_s: float) -> None:
    seconds, given = run(nets_s)
    assert seconds < 600
    assert given["peers"] == ["--rounds", "3"]


def test_one_part_alone_has_all_the_time() -> None:
    assert [limited(bench, Spent()) for bench in ("nets", "pipeline", "streams")] == [[], [], []]


def test_a_machine_that_is_hopelessly_slow_has_three_rounds_of_everything() -> None:
    assert run(2000.0)[1]["streams"] == ["--rounds", "3", "--seconds", f"{LEAST_S:g}"]
