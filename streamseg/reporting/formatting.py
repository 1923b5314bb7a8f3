"""Formats numbers, counts and Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

UNKNOWN = "-"
"""Shown for a figure that was not measured."""


def figure(value: float | None) -> str:
    """Format a number with three significant digits, all integer digits, and a power of ten below 0.001."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}"
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.9995 else 3
    return f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """Format a count as a whole number."""
    return UNKNOWN if value is None else f"{value:.0f}"


def percent(share: float | None, digits: int = 0) -> str:
    """Format a share as percent. Less than all never reads as 100 %, and more than nothing never as 0 %."""
    if share is None:
        return UNKNOWN
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    shown, step = f"{100 * share:.{digits}f}", 10.0**-digits
    if share < 1 and float(shown) == 100:
        return f"> {100 - step:.{digits}f} %"
    if share > 0 and float(shown) == 0:
        return f"< {step:.{digits}f} %"
    return f"{shown} %"


def megabytes(value: float | None) -> str:
    """Format bytes as MB."""
    return UNKNOWN if value is None else figure(value / 1e6)


def counted(number: int, what: str) -> str:
    """``1 frame``, ``2 frames``: for messages."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table. None is a dash; floats get three significant digits, or no decimals."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
