"""The documents' benchmark tables: made from committed results, and the same as they make them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, DOCUMENTS, END, SELECTIONS, main
from streamseg.benchmark.provenance import ROOT
from streamseg.benchmark.rows.run import Row, write_rows
from tests.benchmark.sample_rows import (
    make_run,
    nets_rows,
    peers_rows,
    pipeline_rows,
    streams_rows,
)

MAKERS = {"nets": nets_rows, "peers": peers_rows, "pipeline": pipeline_rows, "streams": streams_rows}


class Checkout:
    """A README with a place for tables, and a folder of results."""

    def __init__(self, root: Path) -> None:
        self.readme, self.results = root / "README.md", root / "benchmarks" / "results"
        self.results.mkdir(parents=True)
        self.readme.write_text(f"# A title\n\n{BEGIN}\n{END}\n\nMore.\n", encoding="utf-8")

    def add(self, name: str, rows: Sequence[Row]) -> None:
        write_rows(self.results / f"{name}.json", rows)

    def run(self, *arguments: str) -> int:
        return main(["--readme", str(self.readme), "--results", str(self.results), *arguments])

    @property
    def text(self) -> str:
        return self.readme.read_text(encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    for bench, maker in MAKERS.items():
        made.add(f"2026-11-22-xeon-2-cores-bench-{bench}", maker())
    return made


def test_the_committed_documents_show_the_committed_results(capsys: pytest.CaptureFixture[str]) -> None:
    for document in DOCUMENTS:
        assert re.search("<!-- (bench|accuracy)", (ROOT / document).read_text(encoding="utf-8"))
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_tables_are_written_once_and_then_agree(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkout.run("--check") == 1
    said = capsys.readouterr().err
    assert "python -m benchmarks.readme" in said
    assert said.count("\n") == 1
    assert checkout.run() == 0
    assert checkout.run("--check") == 0
    text = checkout.text
    assert text.startswith(f"# A title\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nMore.\n")
    assert checkout.run() == 0
    assert checkout.text == text


def test_rows_name_what_was_measured_and_where_it_is_from(checkout: Checkout) -> None:
    checkout.run()
    text = checkout.text
    assert "| improved U-Net | eager FP32, as trained |" in text
    assert "|  | OpenVINO INT8 |" in text
    assert "Dice is of 24 phantoms." in text
    assert "| **streamseg OpenVINO FP32 (ours)** |" in text
    assert "0.674 (0.654 to 0.694)" in text  # the faster peer stands there too
    assert "- OpenVINO, plain: the same runtime" in text
    assert "| live 60 fps | 60 | 600 | 600 | 0 |" in text
    assert (
        "(`streamseg bench streams` on Intel(R) Xeon(R) Processor, 2 cores, 2026-11-22, commit 0123abc;"
        in text
    )
    assert "(benchmarks/results/2026-11-22-xeon-2-cores-bench-nets.json)" in text
    assert "Not for publication" not in text
    assert max(map(len, text.splitlines())) <= 125


def test_random_weights_have_the_dice_of_trained_ones_of_an_earlier_result(checkout: Checkout) -> None:
    run = make_run("bench nets --weights runs/segnet --json nets.json")
    trained = [
        replace(row, trained=True, dice=0.642, mask_agreement=0.975, run=replace(run, date="2026-11-01"))
        for row in nets_rows(run, nets=("segnet",))
    ]
    checkout.add("2026-11-01-xeon-2-cores-bench-nets", trained)
    checkout.run()
    table = checkout.text.partition("| SegNet (random weights) |")[2].partition("\n\n")[0]
    assert table.count("| 0.642 | 0.975 |") == len(trained)
    said = " ".join(checkout.text.split())
    assert "24 phantoms, 24 phantoms (SegNet: trained weights, measured on 2026-11-01)." in said


def test_a_mark_selects_its_tables(checkout: Checkout) -> None:
    checkout.run()
    complete = checkout.text
    marks = [f"<!-- bench {selection} -->" for selection in filter(None, SELECTIONS)]
    checkout.readme.write_text("\n\n".join(f"{mark}\nstale table\n{END}" for mark in marks), encoding="utf-8")
    assert checkout.run("--check") == 1
    assert checkout.run() == 0
    assert checkout.run("--check") == 0
    parts = dict(zip(SELECTIONS, ["", *checkout.text.split(END)], strict=False))
    assert "stale table" not in checkout.text
    for bench in MAKERS:
        own = parts[bench].partition(" -->\n")[2].strip()
        assert own in complete
        assert f"(`streamseg bench {bench}` on" in " ".join(own.split())
        assert own.count("(`streamseg bench") == 1
    short = parts["short"]
    assert "| improved U-Net | eager FP32, as trained |" in short
    assert "| live 60 fps |" in short
    assert "| 2 streams of 30 fps |" in short
    assert "1 streams" not in short
    assert "of the limit" not in short
    assert len(short) < len(complete) / 2


def test_nets_of_different_sizes_are_named_with_theirs(checkout: Checkout) -> None:
    checkout.readme.write_text(f"<!-- bench nets -->\n{END}\n", encoding="utf-8")
    rows = [replace(row, height=256, width=256) if row.net == "unet" else row for row in nets_rows()]
    checkout.add("2026-11-23-xeon-2-cores-bench-nets", rows)
    checkout.run()
    assert "| U-Net (random weights), 256x256 | eager FP32, as trained |" in checkout.text
    assert "| improved U-Net, 192x224 | eager FP32, as trained |" in checkout.text
    assert checkout.text.startswith("<!-- bench nets -->\n| net | variant |")


def test_links_are_relative_to_the_document(checkout: Checkout) -> None:
    below = checkout.readme.parent / "docs" / "results.md"
    below.parent.mkdir()
    below.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    assert main(["--readme", str(below), "--results", str(checkout.results)]) == 0
    text = below.read_text(encoding="utf-8")
    assert "(../benchmarks/results/2026-11-22-xeon-2-cores-bench-nets.json)" in text


def test_another_result_of_the_machine_replaces_an_older_one(checkout: Checkout) -> None:
    newer = make_run("bench streams", date="2026-11-23", quick=True)
    checkout.add("2026-11-23-xeon-2-cores-bench-streams", streams_rows(newer))
    checkout.run()
    assert checkout.text.count("streams of 30 fps") == 1
    assert "2026-11-23-xeon-2-cores-bench-streams.json" in checkout.text
    assert "2026-11-22-xeon-2-cores-bench-peers.json" in checkout.text
    assert "**Not for publication: A quick run: few repeats.**" in " ".join(checkout.text.split())


def test_a_machine_with_a_gpu_comes_first(checkout: Checkout) -> None:
    run = make_run("bench nets")
    run = replace(run, machine=run.machine | {"gpu": "NVIDIA H200", "processor": "AMD EPYC", "cores": 16})
    checkout.add("2026-11-20-nvidia-h200-bench-nets", nets_rows(run))
    checkout.run()
    assert checkout.text.index("NVIDIA H200, AMD EPYC, 16 cores") < checkout.text.index("Xeon")


def test_short_shows_the_machine_measured_last_of_each_kind(checkout: Checkout) -> None:
    checkout.readme.write_text(f"<!-- bench short -->\n{END}\n\n{BEGIN}\n{END}\n", encoding="utf-8")
    run = make_run("bench nets", date="2026-11-30")
    later = replace(run, machine=run.machine | {"processor": "AMD EPYC"})
    checkout.add("2026-11-30-epyc-2-cores-bench-nets", nets_rows(later))
    gpu = replace(run, machine=run.machine | {"gpu": "NVIDIA H200", "processor": "AMD EPYC", "cores": 16})
    checkout.add("2026-11-20-nvidia-h200-bench-nets", nets_rows(gpu))
    checkout.run()
    short, whole = checkout.text.split(END)[:2]
    assert short.index("NVIDIA H200, AMD EPYC, 16 cores") < short.index("AMD EPYC, 2 cores")
    assert "Xeon" not in short
    assert whole.index("AMD EPYC, 2 cores") < whole.index("Xeon")


def test_other_files_in_the_folder_are_left_alone(checkout: Checkout) -> None:
    checkout.run()
    text = checkout.text
    (checkout.results / "2026-11-24-xeon-2-cores-bench-weather.json").write_text("{}")
    (checkout.results / "2026-11-24-xeon-2-cores-engines.json").write_text("{}")
    assert checkout.run("--check") == 0
    assert checkout.text == text


def test_what_cannot_be_is_one_line(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout.results / "2026-11-24-xeon-2-cores-bench-nets.json").write_text("{}")
    assert checkout.run() == 1
    assert "not a benchmark result" in capsys.readouterr().err
    for path in checkout.results.iterdir():
        path.unlink()
    assert checkout.run() == 1
    assert "make bench" in capsys.readouterr().err
    checkout.readme.write_text("no place")
    assert checkout.run("--check") == 1
    said = capsys.readouterr().err
    assert BEGIN in said
    assert said.count("\n") == 1
    checkout.readme.write_text(f"<!-- bench weather -->\n{END}")
    assert checkout.run() == 1
    said = capsys.readouterr().err
    assert "'weather'" in said
    assert "streams" in said
    checkout.readme.write_text(f"{BEGIN}\n{BEGIN}\n{END}")
    assert checkout.run() == 1
    assert "in pairs" in capsys.readouterr().err
