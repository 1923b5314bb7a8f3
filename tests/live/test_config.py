"""Settings of the live command, and the profiles that store them."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.core.errors import UsageError
from streamseg.core.types import Roi
from streamseg.live import LiveOptions
from streamseg.live.config import (
    FOLDER_VARIABLE,
    LiveConfig,
    from_values,
    load_profile,
    profile_path,
    save_profile,
)

SETUP = LiveConfig(
    source="v4l2:/dev/video0",
    roi="40,60,512,480",
    mm_per_pixel=0.11,
    age_budget_ms=200.0,
    size="1280x720",
    rate="30000/1001",
    pixel_format="yuyv",
    display="web",
    opacity=0.4,
    port=9000,
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "profiles"))


def test_a_profile_comes_back_as_it_was_saved() -> None:
    path = save_profile("theatre-2", SETUP)
    assert load_profile("theatre-2") == SETUP
    assert 'source = "v4l2:/dev/video0"' in path.read_text()
    assert "transport" not in path.read_text(), "what is as usual is left out"


@given(
    st.builds(
        LiveConfig,
        source=st.none() | st.text(),
        mm_per_pixel=st.none() | st.floats(0.001, 10),
        opacity=st.floats(0, 1),
        full_screen=st.booleans(),
        port=st.integers(0, 65535),
    )
)
def test_every_set_up_survives(setup: LiveConfig) -> None:
    save_profile("any", setup)
    assert load_profile("any") == setup


def test_a_profile_that_is_not_there_names_those_that_are() -> None:
    save_profile("one", SETUP)
    save_profile("two", SETUP)
    with pytest.raises(UsageError, match="no profile 'three'; there are: one, two; --save-profile three"):
        load_profile("three")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(UsageError, match="invalid profile name"):
        profile_path(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("display = 3", "display is 3, which is not of type str"),
        ("colour = 'red'", "'colour' is not a setting; there are source,"),
        ("display = 'wall'", "display is 'wall'; give window or web or none"),
        ("port = true", "port is True, which is not of type int"),
        ("opacity = 2", "opacity is 2; give 0 to 1"),
        ("age_budget_ms = 0", "age-budget-ms is 0; give 1 to 60000"),
        ("mm_per_pixel = nan", "mm-per-pixel is nan"),
        ("source = ", "cannot read profile"),
        ("source = '\\xff'", "cannot read profile|is not a setting|v4l2"),
    ],
)
def test_an_invalid_profile_is_explained(text: str, message: str) -> None:
    path = profile_path("bad")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if "xff" in text:
        path.write_bytes(b"source = '\xff'")
    with pytest.raises(UsageError, match=message):
        load_profile("bad")


def test_every_setting_has_a_kind_that_is_checked() -> None:
    for field in fields(LiveConfig):
        with pytest.raises(UsageError, match="which is not of type"):
            from_values({field.name: [1]})


def test_without_the_variable_it_lies_with_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert profile_path("x").parts[-3:] == ("streamseg", "profiles", "x.toml")


def test_parameters_replace_a_profiles_settings_by_name() -> None:
    params = {"opacity": 0.7, "size": None, "display": None, "seconds": 3.0, "as_json": True}
    assert LiveConfig.of(params, SETUP) == replace(SETUP, opacity=0.7)
    assert LiveConfig.of(params) == LiveConfig(opacity=0.7)
    with pytest.raises(UsageError, match="opacity is 7; give 0 to 1"):
        LiveConfig.of({"opacity": 7}, SETUP)


def test_settings_give_the_options_of_capture_and_loop() -> None:
    capture, loop = SETUP.capture(), SETUP.loop(seconds=5)
    assert (capture.size, capture.rate, capture.pixel_format) == ((1280, 720), Fraction(30000, 1001), "yuyv")
    assert (capture.transport, capture.pace) == ("tcp", True)
    assert loop == LiveOptions(age_budget_s=0.2, seconds=5, reconnect=True, spacing_mm=(0.11, 0.11))
    assert LiveConfig(source="phantom:").loop() == LiveOptions()
    assert SETUP.given_roi == Roi(40, 60, 512, 480)
    assert LiveConfig(roi="none").given_roi is LiveConfig().given_roi is None
    with pytest.raises(UsageError, match="ROI '1,2' is not x,y,w,h"):
        LiveConfig(roi="1,2")
    with pytest.raises(UsageError, match="size is 'big'"):
        LiveConfig(size="big").capture()


def test_a_profile_is_for_its_owner_only() -> None:
    path = profile_path("theatre-3")
    path.parent.mkdir(parents=True)
    path.write_text("")
    path.chmod(0o644)  # as earlier versions wrote it
    assert stat.S_IMODE(save_profile("theatre-3", SETUP).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        f"port = {'9' * 5000}",
        f"port = 0x{'f' * 5000}",
        f"age_budget_ms = {'9' * 5000}",
        f"age_budget_ms = 0x{'f' * 5000}",
        "age_budget_ms = 1e99999999",
        "opacity = nan",
        "mm_per_pixel = -inf",
        "source = [" + "[" * 100_000,
        "source" + ".a" * 100_000 + " = 1",
        'source = "' + "x" * 10_000 + '"',
        "port = 8765.0",
        "x" * (2 << 20),
        "port = 1979-05-27",
    ],
)
def test_a_profile_with_anything_in_it_is_a_usage_error(text: str) -> None:
    path = profile_path("odd")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    began = time.perf_counter()
    with pytest.raises(UsageError) as raised:
        load_profile("odd")
    assert time.perf_counter() - began < 5
    assert len(str(raised.value)) < 1000


def test_a_fifo_is_no_profile() -> None:
    path = profile_path("pipe")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(UsageError, match="not a regular file"):
        load_profile("pipe")
