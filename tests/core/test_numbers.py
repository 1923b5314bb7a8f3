"""Numbers from outside are read in constant time, or not at all."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest

from streamseg.core.numbers import finite_number, read_decimal, read_fraction, read_integer, whole_number

HOSTILE = [
    "1e99999999",
    "9" * 5000,
    "²",
    "\u0663",
    "nan",
    "inf",
    "1_000",
    "0x10",
    "",
    " ",
    "--1",
    "1e",
    "1/0",
    "1/2/3",
    "5" + " " * 60 + "7",
]


@pytest.mark.parametrize("text", [*HOSTILE, "1" * 10**6, "0." + "1" * 10**6, "1/" + "9" * 10**6])
def test_text_that_is_not_a_plain_number_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    assert read_integer(text, -(10**18), 10**18) is None
    assert read_decimal(text, -1e300, 1e300) is None
    assert read_fraction(text, -1e300, 1e300) is None
    assert time.process_time() - began < 0.5


def test_plain_numbers() -> None:
    assert read_integer(" 42 ", 0, 100) == 42
    assert read_integer("-7", -10, 10) == -7
    assert read_integer("101", 0, 100) is None
    assert read_decimal("2.5e1", 0, 100) == 25
    assert read_decimal(".5", 0, 1) == 0.5
    assert read_decimal("1e40", 0, 100) is None
    assert read_fraction("30000/1001", 1, 1000) == Fraction(30000, 1001)
    assert read_fraction("29.97", 1, 1000) == Fraction("29.97")
    assert read_fraction("0", 1, 1000) is None


def test_values_of_documents() -> None:
    assert finite_number(10**400) is None
    assert finite_number(math.nan) is None
    assert finite_number(math.inf) is None
    assert finite_number(True) is None
    assert finite_number("3") is None
    assert finite_number(3, 0, 5) == 3.0
    assert finite_number(7, 0, 5) is None
    assert whole_number(2.0, 0, 5) == 2
    assert whole_number(2.5, 0, 5) is None
    assert whole_number(True, 0, 5) is None
    assert whole_number(10**400, 0, 5) is None
