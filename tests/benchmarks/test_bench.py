"""``make bench``: which commands it calls, and that a failing one does not stop the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Calls of the program; each writes the file that its options name, except ``pipeline``."""
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


def test_every_part_has_three_rounds_or_more_in_time(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    bench.main(["--out", str(tmp_path)])
    given = {call[3]: call for call in calls}
    assert "--rounds" not in given["nets"]
    assert "--seconds" not in given["peers"]
    for name in ("peers", "pipeline", "streams"):
        assert given[name][given[name].index("--rounds") + 1] == "3"
    assert given["streams"][given["streams"].index("--seconds") + 1] == "4"
    bench.main(["--out", str(tmp_path), "--quick"])
    assert not [call for call in calls[5:] if "--rounds" in call]


class Machine:
    """Takes these times for each benchmark, seconds on a clock of its own; or as long as it may, if that is
    less, and a step that was begun."""

    def __init__(self, **seconds: float) -> None:
        self.seconds, self.now, self.within = seconds, 1000.0, dict[str, float]()

    def run(self, *arguments: str) -> int:
        name = arguments[3] if len(arguments) > 3 else ""
        if "--within" in arguments:
            self.within[name] = float(arguments[arguments.index("--within") + 1])
        self.now += min(self.seconds.get(name, 10.0), self.within.get(name, 1e9) + 5)
        if "--json" in arguments:
            Path(arguments[arguments.index("--json") + 1]).write_text("[]")
        return 0


@pytest.mark.parametrize(
    ("machine", "all_of_it"),
    [
        (Machine(nets=240, peers=80, pipeline=60, streams=70), 460),
        (Machine(nets=2400, peers=800, pipeline=60, streams=70), None),
        (Machine(nets=1e6, peers=1e6, pipeline=1e6, streams=1e6), None),
    ],
)
def test_all_of_it_ends_within_ten_minutes_on_any_machine(
    machine: Machine, all_of_it: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "run", machine.run)
    assert bench.main(["--out", str(tmp_path)], clock=lambda: machine.now) == 0
    took = machine.now - 1000
    assert took <= 600
    if all_of_it is not None:  # no part has less time because another was quick or slow
        assert took == all_of_it
        assert machine.within == bench.SECONDS
    assert min(machine.within.values()) > 50


def test_labels_are_given_to_the_nets_alone(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    bench.main(["--out", str(tmp_path), "--data", str(tmp_path), "--source", str(tmp_path / "clip.mp4")])
    with_labels = [call[3] for call in calls if "--data" in call]
    assert with_labels == ["nets"]
    assert sum("--source" in call for call in calls) == 4
