"""Words that say how many streams are held."""

from typing import Any

import pytest

from streamseg.benchmark.streams.bench import measure_streams
from streamseg.benchmark.streams.words import streams_lines, verdict
from tests.benchmark.sample_rows import streams_rows
from tests.benchmark.streams.scripted import options, scripted, stream


def test_the_answer_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict(streams_rows_with_rates()) == (
        "holds 2 streams of 30 frames/s with every frame segmented, and 4 within 150 ms "
        "(each with 17.0 outlines a second on display, or more)"
    )
    scripted(monkeypatch, lambda count, call: stream())
    rows = measure_streams(options())
    assert verdict(rows).endswith(
        "(each with 30.0 outlines a second on display, or more); more were not tried"
    )
    scripted(monkeypatch, lambda count, call: stream(in_time=0))
    assert verdict(measure_streams(options())) == "holds no stream within 150 ms at 30 frames/s"


def streams_rows_with_rates() -> list[dict[str, Any]]:
    rows = streams_rows()
    for row in rows:
        row["budget_ms"] = 150.0
        for each in row["per_stream"]:
            each["processed_fps"] = each["displayed_fps"] = each["processed"] / 10
    return rows


def test_a_busy_machine_is_told() -> None:
    rows = streams_rows_with_rates()
    for row in rows:
        row["batch_fill"] = 1.0
    rows[0]["run"]["others_share"] = 0.31
    assert "- others took 31% of the processors meanwhile" in streams_lines(rows)
    rows[0]["run"]["others_share"] = None
    assert not any("others took" in line for line in streams_lines(rows))


def test_a_number_that_is_held_above_one_that_is_not_does_not_count() -> None:
    rows = streams_rows_with_rates()
    rows[1]["holds_budget"] = rows[1]["holds_every_frame"] = False
    assert "and 1 within 150 ms" in verdict(rows)
