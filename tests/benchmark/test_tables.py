"""Tables of results, and their words on the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.run import Latency, Spread
from streamseg.benchmark.tables import (
    README,
    REPORT,
    TERMINAL,
    Column,
    by_net,
    make_table,
    quantiles,
    shares,
    size,
    spread,
    variant,
)
from streamseg.benchmark.terminal import lines, verdict
from tests.benchmark.sample_rows import make_run, nets_rows, peers_rows, pipeline_rows, streams_rows


def test_spreads_quantiles_and_shares_in_words() -> None:
    assert spread(Spread(median=7.4, min=7.2, max=7.61)) == "7.40 (7.20 to 7.61)"
    assert spread(Spread(median=1.0, min=1.0, max=1.0)) == "1.00"
    assert spread(Spread(median=1.0)) == "1.00"
    assert spread(Spread()) == "-"
    assert (quantiles(Latency(p50=1.0, p99=12.0)), quantiles(Latency())) == ("1.00 / 12.0", "-")
    assert shares({"fp32": 0.04, "int8": 0.96}) == "int8 96 %, fp32 4 %"
    assert shares({}) == "-"


def test_names_of_variants_sizes_and_nets() -> None:
    rows = nets_rows()
    assert [variant(row) for row in rows[:3]] == [
        "torch eager FP32, as trained",
        "torch eager FP32, folded",
        "OpenVINO FP32",
    ]
    assert variant(NetRow(backend="eager", precision="fp32")) == "torch eager FP32"
    assert [net for net, _ in by_net(rows)] == [
        "improved U-Net",  # though the variant as trained has random weights
        "U-Net (random weights)",
        "SegNet (random weights)",
    ]
    assert size(NetRow(height=192, width=224, batch=8)) == "192x224, batch 8"
    assert size(NetRow()) == "an unknown size"


def test_a_table_has_the_columns_of_its_place_in_which_anything_is_known() -> None:
    columns: list[Column[int]] = [
        Column("everywhere", str),
        Column("report", str, (REPORT,)),
        Column("unknown", lambda _: "-"),
    ]
    assert make_table("", "n", [1, 2], str, columns).header == ("n", "everywhere", "report")
    for place in (TERMINAL, README):
        made = make_table("", "n", [1, 2], str, columns, place=place)
        assert (made.header, made.rows) == (("n", "everywhere"), [("1", "1"), ("2", "2")])


def test_nets_on_the_terminal() -> None:
    run = make_run("bench nets", absent={"unet onnx int8": "gone"}, others_share=0.1)
    rows = [replace(row, notes=["late", row.key]) for row in nets_rows(run, nets=("unet",))[:2]]
    text = lines(rows)
    assert text[0] == "U-Net (random weights), 192x224:"
    assert text[2].startswith("| variant | engine, frames/s | end to end | p50 / p99, ms | x eager |")
    assert text[4].startswith("| torch eager FP32, as trained | 11.2 | 11.6 | 83.3 / 238 | 1.00 | 70 % |")
    assert "Nets with random weights run end to end with a made-up outline." in text
    assert "Other processes took 10 % of the processor meanwhile." in text
    assert [line for line in text if line.startswith(("Note", "Absent"))] == [
        "Note: 2 of 2 rows: late",
        *(f"Note: {row.key}: {row.key}" for row in rows),
        "Absent: unet onnx int8: gone",
    ]
    assert lines([]) == []


def test_a_pipeline_on_the_terminal_has_two_tables() -> None:
    text = "\n".join(lines(pipeline_rows()))
    assert "| mode | pace, frames/s | offered | processed | dropped | frames/s | age p50, ms | p95 |" in text
    assert "| mode | decode | wait | preprocess | infer | postprocess | overlay | display | queue |" in text
    assert text.count("| live 60 fps |") == 2


def test_peers_on_the_terminal_stand_by_kind_the_fastest_first() -> None:
    text = lines(peers_rows())
    assert sum(line.startswith("|---") for line in text) == 3
    ours, other = (next(n for n, line in enumerate(text) if name in line) for name in ("improved", "MONAI"))
    assert other < ours
    assert "improved U-Net, OpenVINO (ours)" in text[ours]
    assert "11.9 GFLOP instead of 18.1" in text[other]


def test_how_many_streams_the_machine_holds() -> None:
    rows = streams_rows()
    held = "holds 2 streams of 30 frames/s with every frame segmented, and 4 within 150 ms"
    assert verdict(rows) == f"{held} (each with 17.0 outlines a second on display, or more)"
    assert lines(rows)[-1] == f"This machine {verdict(rows)}."
    assert verdict(rows[:3]).endswith("on display, or more); more were not tried")
    none = [replace(row, holds_budget=False, holds_every_frame=False) for row in rows]
    assert verdict(none) == "holds no stream within 150 ms at 30 frames/s"
    assert verdict([*none[:1], *rows[1:]]) == "holds no stream within 150 ms at 30 frames/s"
    # A number that is held above one that is not does not count.
    assert "and 1 within 150 ms" in verdict([rows[0], none[1], *rows[2:]])


@pytest.mark.parametrize("share", [0.31, None])
def test_a_busy_machine_is_told(share: float | None) -> None:
    text = lines(streams_rows(make_run("bench streams", others_share=share)))
    assert ("Other processes took 31 % of the processor meanwhile." in text) == (share is not None)
    assert any("others took" in line.lower() or "Other processes" in line for line in text) == bool(share)


def test_streams_that_are_not_drawn_say_so() -> None:
    undrawn = make_run("bench streams", regime={"drawn": False})
    assert lines(streams_rows(undrawn))[0].endswith("engine improved_unet-openvino-int8, nothing drawn:")
