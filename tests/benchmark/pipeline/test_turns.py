"""The pipeline's modes take turns, and one that fails loses no other."""

from streamseg.backends import FakeBackend
from streamseg.benchmark.pipeline.rows import mode_row
from streamseg.benchmark.pipeline.run import EndToEnd
from streamseg.benchmark.pipeline.turns import Mode, Turns
from streamseg.benchmark.terminal import lines
from tests.benchmark.pipeline.outcomes import SPEC, outcome


def fake() -> FakeBackend:
    return FakeBackend(SPEC)


def test_modes_take_turns_and_the_first_run_does_not_count() -> None:
    runs: list[tuple[str, float]] = []

    def mode(key: str) -> Mode:
        def run(seconds: float) -> EndToEnd:
            runs.append((key, seconds))
            return outcome(10)

        return Mode(key, fake(), None, run)

    turns = Turns([mode("a"), mode("b")], lambda line: None)
    turns.run(2, 7.0)
    assert runs == [("b", 1.0), ("a", 1.0), ("a", 7.0), ("b", 7.0), ("b", 7.0), ("a", 7.0)]
    assert {mode.key: len(outcomes) for mode, outcomes in turns.done} == {"a": 2, "b": 2}
    assert turns.absent == {}


def test_a_mode_that_fails_loses_no_other() -> None:
    def breaks(seconds: float) -> EndToEnd:
        raise RuntimeError("the driver\nhas gone")

    modes = [Mode("good", fake(), None, lambda seconds: outcome(10)), Mode("bad", fake(), None, breaks)]
    said: list[str] = []
    turns = Turns(modes, said.append)
    turns.run(2, 1.0)
    ((good, outcomes),) = turns.done
    assert (good.key, len(outcomes)) == ("good", 2)
    assert turns.absent == {"bad": "the driver has gone"}
    assert said[0] == "bad is left out: the driver has gone"
    row = mode_row(good, outcomes, {"absent": turns.absent})
    assert "Absent: bad: the driver has gone" in lines([row])
