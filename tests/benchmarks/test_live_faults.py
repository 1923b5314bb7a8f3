"""The fault table's figures, computed from known observations."""

import numpy as np
import pytest

from benchmarks.live_faults import account
from benchmarks.live_faults.scene import DiscEngine, Seen, off_by, picture
from streamseg.core.types import Frame, State
from streamseg.segmentation.segmenter import Segmenter

S = 1_000_000_000


def seen(second: float, state: State, captured: float | None = None, number: int | None = None) -> Seen:
    at = None if captured is None else round(captured * S)
    return Seen(round(second * S), state, "" if captured is not None else "no frame for 0.2 s", at, number)


STORY = [
    seen(1.0, State.NERVE, 0.95, 1),
    seen(1.5, State.NERVE, 1.45, 2),
    seen(1.6, State.LAGGING),
    seen(1.7, State.SOURCE_LOST),
    seen(3.2, State.NERVE, 3.15, 3),
    seen(3.3, State.NERVE, 3.25, 4),
]
MOMENTS = account.Moments(began=round(1.55 * S), ended=3 * S, back=round(3.2 * S), stopped=round(3.4 * S))


def test_age_of_an_outline_is_that_at_its_removal_from_the_display() -> None:
    ages = [age / S for age in account.outline_ages(STORY, MOMENTS.stopped)]
    assert ages == pytest.approx([0.55, 0.15, 0.15, 0.15])
    true = account.true_ages(STORY, {2: S, 4: 3 * S}, MOMENTS.stopped)
    assert [age / S for age in true] == pytest.approx([0.6, 0.4])


def test_longest_time_without_an_outline() -> None:
    assert account.longest_gap(STORY, MOMENTS.began, MOMENTS.stopped) == pytest.approx(1.6)
    assert account.longest_gap(STORY[:2], S, 2 * S) == 0
    assert account.longest_gap(STORY[2:4], S, 2 * S) == pytest.approx(1.0), "nothing seen is no outline"


def test_states_are_timed_from_the_beginning_of_the_fault() -> None:
    changes = account.states(STORY, MOMENTS)
    assert (
        account.state_words(changes) == "nerve, 0.05 s segmentation lagging, 0.15 s source lost, 1.65 s nerve"
    )
    many = [(float(k), f"state {k}") for k in range(20)]
    assert account.state_words(many).endswith("(12 more changes), 19.00 s state 19")


def test_reasons_that_differ_in_a_number_are_one() -> None:
    assert account.reasons(STORY, MOMENTS) == ["no frame for 0.2 s"]


@pytest.mark.parametrize("size", [(240, 320), (360, 480)])
def test_an_outline_differs_from_that_of_the_next_frame(size: tuple[int, int]) -> None:
    segmenter = Segmenter(DiscEngine())
    first, second = (Frame(picture(number, *size), number, 0) for number in (7, 8))
    limit = 8 * size[0] / 240
    assert off_by(first.image, segmenter.segment(first)) < limit / 2
    assert off_by(second.image, segmenter.segment(first)) > 2 * limit
    colour = np.repeat(first.image[..., None], 3, axis=2)
    assert off_by(colour, segmenter.segment(first)) < limit / 2
