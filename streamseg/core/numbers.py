"""Reads numbers that come from outside: network, DICOM, JSON, manifests, records, web messages, profiles.

Python's own parsers accept what no such number needs: thousands of digits, an exponent that fills the memory
(``Fraction("1e99999999")``), digits of other scripts, NaN. Every function here takes constant time, and
returns None for anything that is not a number within its bounds.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,19}(?:\.[0-9]{0,19})?|\.[0-9]{1,19})(?:[eE][+-]?[0-9]{1,2})?")
_MAX_TEXT = 48


def read_integer(text: str, minimum: int, maximum: int) -> int | None:
    """A whole number in decimal ASCII digits within the bounds; blanks around it do not count."""
    stripped = _plain(text)
    if not _INTEGER.fullmatch(stripped):
        return None
    value = int(stripped)
    return value if minimum <= value <= maximum else None


def read_decimal(text: str, minimum: float, maximum: float) -> float | None:
    """A decimal number, with an exponent of at most two digits, within the bounds."""
    stripped = _plain(text)
    if not _DECIMAL.fullmatch(stripped):
        return None
    value = float(stripped)
    return value if minimum <= value <= maximum else None


def read_fraction(text: str, minimum: float, maximum: float) -> Fraction | None:
    """A ratio such as ``30000/1001``, or a decimal number, within the bounds; exact."""
    above, slash, below = _plain(text).partition("/")
    if not slash:
        value = Fraction(above) if _DECIMAL.fullmatch(above) else None
    else:
        numerator, denominator = read_integer(above, -(10**18), 10**18), read_integer(below, 1, 10**18)
        value = None if numerator is None or denominator is None else Fraction(numerator, denominator)
    return value if value is not None and minimum <= value <= maximum else None


def finite_number(value: object, minimum: float = -1e300, maximum: float = 1e300) -> float | None:
    """A value of a parsed JSON or TOML document as a finite float within the bounds; True is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def whole_number(value: object, minimum: int, maximum: int) -> int | None:
    """A value of a parsed JSON or TOML document as an integer within the bounds; 2.0 is one, True is not."""
    found = finite_number(value, minimum, maximum)
    return int(value) if found is not None and found == int(found) else None  # type: ignore[call-overload]


def _plain(text: str) -> str:
    """The text without blanks around it; empty if it is longer than any number that is meant."""
    return text.strip(" \t") if len(text) <= _MAX_TEXT else ""
