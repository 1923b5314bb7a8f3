"""Numbers, shares and Markdown tables as text."""

import pytest

from streamseg.reporting.formatting import figure, megabytes, percent, table


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.00042, "4e-04"),
        (0.0123, "0.012"),
        (0.9999, "1.00"),
        (1.234, "1.23"),
        (9.999, "10.0"),
        (74.61, "74.6"),
        (99.97, "100"),
        (1234.5, "1234"),
        (-3.456, "-3.46"),
    ],
)
def test_figures_have_three_digits(value: float | None, words: str) -> None:
    assert figure(value) == words


@pytest.mark.parametrize(
    ("share", "digits", "words"),
    [
        (None, 0, "-"),
        (1.0, 1, "100 %"),
        (0, 1, "0 %"),
        (0.9996, 1, "> 99.9 %"),
        (0.9996, 0, "> 99 %"),
        (0.00001, 1, "< 0.1 %"),
        (0.985, 1, "98.5 %"),
        (1.17, 0, "117 %"),
    ],
)
def test_a_share_that_is_not_all_never_reads_as_all(share: float | None, digits: int, words: str) -> None:
    assert percent(share, digits) == words


def test_bytes_are_megabytes() -> None:
    assert megabytes(9_200_000) == "9.20"


def test_a_markdown_table() -> None:
    assert table(("net", "ms"), [("unet", 22.24), ("segnet", 1204.4), ("tiny", 0.1234), ("new", None)]) == [
        "| net | ms |",
        "|---|---|",
        "| unet | 22.2 |",
        "| segnet | 1204 |",
        "| tiny | 0.123 |",
        "| new | - |",
    ]
