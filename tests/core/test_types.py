"""Values check themselves when they are made."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.backends import FakeBackend
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.spec import StructureSpec
from streamseg.core.types import (
    Backend,
    Frame,
    InputSpec,
    OutputCalibration,
    Result,
    Roi,
    Segmentation,
    State,
)

SPEC = InputSpec(192, 256, mean=0.25, std=0.25, threshold=0.5, min_area=0.002)


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(1, 9999), st.integers(1, 9999))
def test_roi_text_survives_the_round_trip(x: int, y: int, width: int, height: int) -> None:
    roi = Roi(x, y, width, height)
    assert Roi.parse(str(roi)) == roi


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", "1,2,3,0", "-1,2,3,4"])
def test_text_that_is_not_a_roi_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        Roi.parse(text)


def test_roi_crops_and_checks() -> None:
    image = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert Roi.whole(image) == Roi(0, 0, 5, 4)
    assert Roi(1, 2, 3, 1).crop(image).tolist() == [[11, 12, 13]]
    Roi(1, 2, 4, 2).check_inside(4, 5)
    assert Roi(1, 2, 4, 2).fits_into(4, 5)
    assert not Roi(1, 2, 4, 2).fits_into(3, 5)
    with pytest.raises(UsageError, match="0,0,5,4"):
        Roi(1, 2, 5, 2).check_inside(4, 5)


JUDGED = replace(SPEC, judgement=OutputCalibration(1.5, -2.0, 0.5, presence=0.2, familiar="0.5 1e-3 2 3 4"))


def test_a_calibration_travels_with_the_spec_and_is_left_out_if_missing() -> None:
    assert InputSpec.from_json(json.dumps(JUDGED.to_json())) == JUDGED
    assert InputSpec.from_json(JUDGED.to_json() | {"judgement": None}) == SPEC
    assert "judgement" not in SPEC.to_json()


def test_the_structures_travel_with_the_spec_and_older_files_outline_nerves_alone() -> None:
    both = replace(JUDGED, structures=("nerve", "vessel"))
    assert InputSpec.from_json(json.dumps(both.to_json())) == both
    assert "structures" not in SPEC.to_json()
    assert InputSpec.from_json(SPEC.to_json()).structures == ("nerve",)


VESSELS = StructureSpec(0.4, 0.01, OutputCalibration(1.5, -2.0, 0.0, presence=0.2))
BOTH = replace(JUDGED, structures=("nerve", "vessel"), others={"vessel": VESSELS})


def test_the_limits_of_each_structure_travel_with_the_spec() -> None:
    assert InputSpec.from_json(json.dumps(BOTH.to_json())) == BOTH
    assert BOTH.structure("vessel") == VESSELS
    assert BOTH.structure("nerve") == StructureSpec(SPEC.threshold, SPEC.min_area, JUDGED.judgement)
    assert replace(BOTH, others={}).structure("vessel") == StructureSpec()
    assert "others" not in replace(BOTH, others={}).to_json()
    with pytest.raises(KeyError):
        BOTH.structure("bone")


def test_another_input_size_loses_what_was_measured_at_this_one() -> None:
    assert BOTH.resized(BOTH.height, BOTH.width) is BOTH
    other = BOTH.resized(64, 96)
    assert (other.height, other.width, other.judgement) == (64, 96, None)
    assert other.structure("vessel") == replace(VESSELS, judgement=None)


@pytest.mark.parametrize(
    "others",
    [
        None,
        [],
        {"vessel": None},
        {"vessel": []},
        {"vessel": {"threshold": 0}},
        {"vessel": {"threshold": "high"}},
        {"vessel": {"min_area": 2}},
        {"vessel": {"unknown": 1}},
        {"vessel": {"judgement": {"slope": 0, "intercept": 0, "doubt": 0}}},
        {"bone": {}},
        {"nerve": {}},
    ],
)
def test_damaged_limits_of_structures_are_an_engine_error(others: object) -> None:
    with pytest.raises(EngineError):
        InputSpec.from_json(BOTH.to_json() | {"others": others})


@pytest.mark.parametrize(
    "structures",
    [
        [],
        None,
        "nerve",
        ["vessel"],
        ["vessel", "nerve"],
        ["nerve", "nerve"],
        ["nerve", "Vessel"],
        ["nerve", "a vessel"],
        ["nerve", "v" * 33],
        ["nerve", 1],
        {"nerve": 1},
    ],
)
def test_damaged_structures_are_an_engine_error(structures: object) -> None:
    with pytest.raises(EngineError):
        InputSpec.from_json(SPEC.to_json() | {"structures": structures})


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0},
        {"slope": "steep"},
        {"intercept": float("nan")},
        {"doubt": 1.5},
        {"presence": -0.1},
        {"presence": None},
        {"familiar": "1 2 x"},
        {"familiar": "1 2 3"},
        {"familiar": "1 inf"},
        {"familiar": 7},
        {"unknown": 1},
    ],
)
def test_a_damaged_calibration_is_an_engine_error(change: dict[str, object]) -> None:
    values = JUDGED.to_json()
    with pytest.raises(EngineError):
        InputSpec.from_json(values | {"judgement": values["judgement"] | change})
    with pytest.raises(EngineError):
        InputSpec.from_json(values | {"judgement": [1, 2]})


def test_spec_survives_json() -> None:
    assert InputSpec.from_json(json.dumps(SPEC.to_json())) == SPEC
    assert InputSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"height": 192}',
        json.dumps(SPEC.to_json() | {"std": 0}),
        '{"unknown": 1}',
    ],
)
def test_damaged_spec_is_an_engine_error(text: str) -> None:
    with pytest.raises(EngineError):
        InputSpec.from_json(text)


def test_frame_is_read_only_and_checks_its_image() -> None:
    frame = Frame(np.zeros((4, 5, 3), np.uint8), 0, 0)
    assert not frame.image.flags.writeable
    assert repr(frame) == "Frame(index=0, pts_seconds=None, shape=(4, 5))"
    for bad in (np.zeros((4, 5), np.float32), np.zeros((4, 5, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(TypeError, match="uint8"):
            Frame(bad, 0, 0)


def test_result_shows_states_not_pixels() -> None:
    frame = Frame(np.zeros((4, 5), np.uint8), 3, 0)
    nothing = Segmentation(np.zeros((4, 5), np.bool_), (), 0, None, None, 0.9, State.NO_NERVE)
    result = Result(frame, nothing, Roi(0, 0, 5, 4), age_ns=1_500_000)
    assert result.state == "no nerve"
    assert "no nerve" in repr(result)
    assert len(repr(result)) < 200


def test_the_fake_is_a_backend() -> None:
    assert isinstance(FakeBackend(SPEC), Backend)


def test_a_mirrored_specification_survives_json_and_is_left_out_of_others() -> None:
    mirrored = replace(SPEC, mirrored=True)
    assert InputSpec.from_json(json.dumps(mirrored.to_json())) == mirrored
    assert "mirrored" not in SPEC.to_json()
    with pytest.raises(EngineError, match="invalid input specification"):
        InputSpec.from_json(SPEC.to_json() | {"mirrored": "yes"})
