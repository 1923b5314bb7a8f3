"""Options of several names, which every benchmark reads in one way."""

from __future__ import annotations

import pytest

from streamseg.cli.bench.common import listed
from streamseg.core.errors import UsageError


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (None, ()),
        (["unet"], ("unet",)),
        (["unet,segnet"], ("unet", "segnet")),
        ([" segnet , unet", "improved_unet\t"], ("segnet", "unet", "improved_unet")),
    ],
)
def test_given_several_times_or_with_commas_and_blanks(
    given: list[str] | None, parts: tuple[str, ...]
) -> None:
    assert listed("--net", given, "unet, segnet") == parts


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([""], "--net has an empty part, received ''; give some of unet, segnet"),
        (["unet,"], "--net has an empty part, received 'unet,'; "),
        ([",", "unet"], "--net has an empty part"),
        (["unet, unet"], "--net names 'unet' twice, received 'unet, unet'; give some of unet, segnet"),
        (["unet", "segnet,unet"], "--net names 'unet' twice"),
    ],
)
def test_empty_parts_and_doubles_are_refused_in_one_line(given: list[str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        listed("--net", given, "unet, segnet")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
