"""``make bench``: which commands it calls, and that one which fails does not take the others with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench
from benchmarks.bench import BLOCKS, FIXED_S, MIN_BLOCK_S, NETS_S, PACED_S, PEERS_S, TOTAL_S, Spent, limited


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Calls of the program; each writes the file that it was told to, but for those of ``pipeline``."""
    found: list[tuple[str, ...]] = []

    def run(*arguments: str) -> int:
        found.append(arguments)
        if "pipeline" in arguments:
            return 1
        if "--json" in arguments:
            Path(arguments[arguments.index("--json") + 1]).write_text("[]")
        return 0

    monkeypatch.setattr(bench, "run", run)
    return found


def test_one_that_fails_leaves_the_others_and_the_report(
    calls: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = bench.main(["--out", str(tmp_path), "--date", "2026-01-02", "--readme"])
    assert code == 1
    assert [call[3] for call in calls] == ["nets", "peers", "pipeline", "streams", "report"]
    reported = [Path(part).name for part in calls[-1] if part.endswith(".json")]
    assert [name.rpartition("-")[2] for name in reported] == ["nets.json", "peers.json", "streams.json"]
    assert all(name.startswith("2026-01-02-") for name in reported)
    assert "error: failed: pipeline" in capsys.readouterr().err


def test_the_readme_is_written_last_if_all_went_well(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert bench.main(["--out", str(tmp_path), "--only", "nets", "streams", "--readme", "--quick"]) == 0
    assert calls[-1] == ("-m", "benchmarks.readme")
    assert all("--quick" in call for call in calls[:2])


def test_benchmarks_after_slow_nets_have_shorter_rounds(
    calls: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 300))
    monkeypatch.setattr(bench.time, "monotonic", lambda: float(next(clock)))
    bench.main(["--out", str(tmp_path)])
    given = {call[3]: call for call in calls}
    assert "--rounds" not in given["nets"]
    assert "--seconds" not in given["peers"]
    for name in ("peers", "pipeline", "streams"):
        assert given[name][given[name].index("--rounds") + 1] == "3"
    assert given["streams"][given["streams"].index("--seconds") + 1] == "1.5"
    bench.main(["--out", str(tmp_path), "--quick"])
    assert not [call for call in calls[5:] if "--rounds" in call]


def test_labels_are_given_to_the_nets_alone(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    bench.main(["--out", str(tmp_path), "--data", str(tmp_path), "--source", str(tmp_path / "clip.mp4")])
    with_labels = [call[3] for call in calls if "--data" in call]
    assert with_labels == ["nets"]
    assert sum("--source" in call for call in calls) == 4


def run(nets_s: float) -> tuple[float, dict[str, list[str]]]:
    """Seconds of it all on a machine on which the nets take so long, and the options of each part."""
    spent, given = Spent(), {}
    slow = nets_s / NETS_S
    for name in ("nets", "peers", "pipeline", "streams"):
        given[name] = options = limited(name, spent)
        if name == "nets":
            seconds = nets_s
        elif name == "peers":
            seconds = slow * PEERS_S[3 if options else 5]
        else:
            block = float(options[options.index("--seconds") + 1]) if options else PACED_S[name]
            assert block >= MIN_BLOCK_S
            seconds = slow * FIXED_S[name] + BLOCKS * block
        assert "--rounds" not in options or options[options.index("--rounds") + 1] == "3"
        spent.add(name, seconds)
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
    assert run(2000.0)[1]["streams"] == ["--rounds", "3", "--seconds", f"{MIN_BLOCK_S:g}"]
