"""The report of good rows, of odd ones, of other programs' rows, and of those not for publication."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streamseg.benchmark.report.write import check_charts, compose, runs_of, write_report
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.reading import COMMON, read_results, typed
from streamseg.benchmark.rows.run import Row, RunInfo, decode
from streamseg.core.errors import MissingExtra, SinkError
from streamseg.reporting.document import Block, Bullets, Heading, Paragraph, Picture, Table
from tests.benchmark.sample_rows import (
    all_rows,
    blanked,
    make_run,
    nets_rows,
    peers_rows,
    pipeline_rows,
    streams_rows,
)

Maker = Callable[[], list[Row]]
MAKERS = (nets_rows, pipeline_rows, streams_rows, peers_rows)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all benchmarks, with every kind of chart."""
    path = tmp_path_factory.mktemp("report") / "all.html"
    nets = nets_rows(nets=("improved_unet", "unet"))
    write_report([*nets, *pipeline_rows(), *streams_rows(), *peers_rows()], path)
    return path


def pictures(page: str) -> list[bytes]:
    return [
        base64.b64decode(found) for found in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    ]


def listed(blocks: Sequence[Block], heading: str) -> list[str]:
    """The items of the list under a heading; empty where there is none."""
    for block, following in itertools.pairwise(blocks):
        if isinstance(block, Heading) and block.text == heading:
            return list(following.items) if isinstance(following, Bullets) else []
    return []


def of_rows(rows: Sequence[Row]) -> list[Block]:
    """The blocks of a report of the rows."""
    return compose(runs_of(rows))


def table_of(blocks: Sequence[Block], caption: str) -> Table:
    return next(block for block in blocks if isinstance(block, Table) and block.caption == caption)


def test_one_file_holds_everything_and_needs_nothing(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:|//)""", page)
    drawn = pictures(page)
    assert len(drawn) == 9  # rates, limits, a net's histogram each, three of the pipeline, streams, peers
    for picture in drawn:
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg")
        assert b"<text" in picture  # text is text
    assert len(page) < 1_500_000


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    pages = [tmp_path / "one.html", tmp_path / "again.html"]
    for page in pages:
        write_report(streams_rows(), page)
    assert len({page.read_bytes() for page in pages}) == 1
    assert len({page.with_suffix(".md").read_bytes() for page in pages}) == 1


def test_markdown_has_the_same_tables_without_pictures(report: Path) -> None:
    words = report.with_suffix(".md").read_text(encoding="utf-8")
    assert "![" not in words
    assert "not a medical device" in words
    for caption in ("improved U-Net: speed", "Frames and their age", "Streams side by side"):
        assert f"**{caption}**" in words


@pytest.mark.usefixtures("no_charts")
def test_a_peer_that_is_faster_stands_above_ours_and_says_why() -> None:
    blocks = of_rows(peers_rows())
    names = [row[0] for row in table_of(blocks, "Other nets of this kind at the same input").rows]
    assert names[:2] == ["MONAI BasicUNet, OpenVINO", "improved U-Net, OpenVINO (ours)"]
    whys = next(block for block in blocks if isinstance(block, Bullets) and "GFLOP" in str(block.items))
    assert "MONAI BasicUNet, OpenVINO: 11.9 GFLOP instead of 18.1" in whys.items


@pytest.mark.usefixtures("no_charts")
def test_notes_and_absent_things_cannot_be_overlooked() -> None:
    rows = streams_rows(make_run("bench streams", absent={"16 streams": "no answer within 60 s"}))
    rows[1] = replace(rows[1], notes=["frame 7 came out twice"])
    blocks = of_rows(rows)
    assert listed(blocks, "What is wrong or missing") == [
        "streams, 2 streams: frame 7 came out twice",
        "absent: 16 streams: no answer within 60 s",
    ]
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings.index("What is wrong or missing") < headings.index("Streams side by side")


@pytest.mark.usefixtures("no_charts")
def test_a_run_that_is_not_for_publication_says_so_on_top() -> None:
    run = make_run("bench streams", quick=True)
    blocks = of_rows(streams_rows(run))
    assert listed(blocks, "Not for publication") == run.remarks == ["A quick run: few repeats."]
    assert next(block.text for block in blocks if isinstance(block, Heading)) == "Not for publication"
    several = of_rows([*pipeline_rows(), *streams_rows(run)])
    assert listed(several, "Not for publication") == ["run 2: A quick run: few repeats."]


@pytest.mark.usefixtures("no_charts")
def test_a_quiet_committed_run_has_no_remark() -> None:
    assert not listed(of_rows(all_rows()), "Not for publication")


@pytest.mark.usefixtures("no_charts")
def test_several_runs_of_a_benchmark_stand_side_by_side() -> None:
    other = make_run("bench streams --fps 60", threads=4)
    blocks = of_rows([*streams_rows(), *streams_rows(other), *streams_rows()])  # the first file given twice
    tables = [
        block for block in blocks if isinstance(block, Table) and block.caption == "Streams side by side"
    ]
    assert [len(table.rows) for table in tables] == [4, 4]
    each = table_of(blocks, "Each run")
    assert ("threads", "2", "4") in each.rows
    assert all(row[0] != "processor" for row in each.rows)
    assert any(isinstance(block, Heading) and block.text.startswith("Run 2: ") for block in blocks)


def test_every_call_is_in_the_histogram() -> None:
    rows = nets_rows(nets=("unet",))[:2]
    calls = sum(row.calls or 0 for row in rows)
    captions = [block.caption for block in of_rows(rows) if isinstance(block, Picture)]
    assert any(f"all {calls} that were timed" in caption for caption in captions)


def test_several_sizes_are_told_apart() -> None:
    rows = nets_rows(nets=("unet",))[2:4]
    larger = [
        replace(row, height=416, width=576, batch=8, key=f"{row.key} b8", end_to_end_fps=None, paced=[])
        for row in rows
    ]
    blocks = of_rows([*rows, *larger])
    names = [row[0] for row in table_of(blocks, "U-Net (random weights): speed").rows]
    assert len(set(names)) == 4
    assert "OpenVINO INT8, 416x576, batch 8" in names
    drawn = [block.name for block in blocks if isinstance(block, Picture)]
    assert len(set(drawn)) == len(drawn) == 6


@pytest.mark.parametrize("maker", MAKERS)
def test_unknown_figures_are_not_drawn(maker: Maker) -> None:
    blocks = of_rows([blanked(row) for row in maker()])
    assert not [block for block in blocks if isinstance(block, Picture)]


JUNK = (None, "x", -1, 0, True, [], [[]], {}, {"p50": None}, [{"fps": "a"}], [None, 3])


def spoilt(rows: Sequence[Row], junk: Iterator[object], at_once: int = 1) -> list[Row]:
    """Rows of which each has some figures of another kind, and one that has none of the right."""
    made = [row.to_json() for row in rows]
    names = [name for name in made[0] if name not in COMMON]
    each = [
        {**made[turn % len(made)], "a figure of tomorrow": 3}
        | {name: next(junk) for name in names[turn * at_once :][:at_once]}
        for turn in range(-(-len(names) // at_once))
    ]
    return [typed(row) for row in [*each, {**made[0], **dict.fromkeys(names, next(junk))}]]


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("maker", MAKERS)
def test_figures_of_another_kind_never_break_it(maker: Maker, junk: object) -> None:
    assert of_rows(spoilt(maker(), itertools.repeat(junk)))


@pytest.mark.parametrize("maker", MAKERS)
def test_figures_of_another_kind_never_break_a_chart(maker: Maker) -> None:
    assert of_rows(spoilt(maker(), itertools.cycle(JUNK), at_once=5))


@pytest.mark.slow
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("maker", MAKERS)
def test_no_figure_of_another_kind_breaks_a_chart(maker: Maker, junk: object) -> None:
    assert of_rows(spoilt(maker(), itertools.repeat(junk)))


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("run", [None, "x", {}, {"machine": None, "limits": 3, "absent": "y", "regime": []}])
def test_a_run_that_says_little_never_breaks_it(run: object) -> None:
    assert of_rows([replace(row, run=decode(RunInfo, run)) for row in all_rows()[::5]])


@pytest.mark.usefixtures("no_charts")
def test_rows_of_a_kind_that_is_unknown_are_named() -> None:
    row = Row(bench="weather", key="rain", run=make_run("bench weather"))
    assert listed(of_rows([row]), "weather") == []  # a paragraph comes between
    assert any(isinstance(block, Bullets) and block.items == ["rain"] for block in of_rows([row]))


NAMES = ["$\\frac{1}$ $x", "a" * 300, "word " * 60, "<b>&amp;</b>", "^_{%}\\"]


def test_names_are_drawn_as_they_are() -> None:
    """A clip, a back end or a peer may be called anything; a long name must leave room for its chart."""
    net, peer, live = nets_rows(nets=("unet",))[3], peers_rows()[0], pipeline_rows()[0]
    nets = [replace(net, net=name, backend=name) for name in NAMES]
    peers = [replace(peer, name=name, kind=name) for name in NAMES]
    modes = [replace(live, key=name) for name in NAMES]
    for rows in (nets, peers, modes):
        drawn = [block for block in of_rows(rows) if isinstance(block, Picture)]
        assert drawn
        for picture in drawn:
            ElementTree.fromstring(picture.data)


@pytest.mark.parametrize("value", [1e308, 10**400, -1e308, -5.0, 0.0, 1e-308])
def test_figures_that_no_machine_has_never_break_a_chart(value: float) -> None:
    figures = dict.fromkeys(("engine_fps", "end_to_end_fps", "limit_share"), value)
    strange = {**figures, "durations_ms": [[value, 1.0]], "latency_ms": {"p50": value}}
    assert of_rows([decode(NetRow, {**nets_rows(nets=("unet",))[0].to_json(), **strange})])


@pytest.mark.usefixtures("no_charts")
def test_rows_that_have_only_figures(tmp_path: Path) -> None:
    """Of another program, or written by hand: what is not known is not said."""
    row = {"net": "unet", "backend": "eager", "precision": "fp32", "engine_fps": 10.0}
    path = tmp_path / "bare.json"
    path.write_text(json.dumps([row, {**row, "backend": "openvino"}]))
    blocks = of_rows(read_results(path))
    tables = {block.caption: block for block in blocks if isinstance(block, Table)}
    assert [cells[0] for cells in tables["U-Net: speed"].rows] == ["torch eager FP32", "OpenVINO FP32"]
    assert tables["This run"].rows == [
        ("file", "bare.json"),
        ("benchmarks", "nets"),
        ("machine", "an unnamed processor"),
    ]
    assert Paragraph("The rows do not say how they were measured.") in blocks
    assert "U-Net: what it computes, and what it takes" not in tables


def test_two_files_of_bare_rows_are_two_runs(tmp_path: Path) -> None:
    row = {"net": "unet", "backend": "eager", "engine_fps": 10.0}
    for name, rate in (("a", 10.0), ("b", 8.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps([{**row, "engine_fps": rate}]))
    rows = [row for name in "ab" for row in read_results(tmp_path / f"{name}.json")]
    assert len(runs_of(rows)) == 2


def test_rows_are_put_together_by_run_and_count_once() -> None:
    rows = all_rows()
    runs = runs_of([*rows, *rows])
    assert [run[0].bench for run in runs] == ["nets", "pipeline", "streams", "peers"]
    assert sum(map(len, runs)) == len(rows)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"streamseg\[bench\]"):
        check_charts()
    with pytest.raises(MissingExtra):
        write_report(streams_rows(), tmp_path / "out.html")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        write_report(streams_rows(), tmp_path / "file" / "out.html")


def test_a_browser_shows_it_without_scripts_and_without_the_network(report: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested by playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here; install the package chromium")
    asked, said = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(report.as_uri())
        for width in (1280, 480):
            page.set_viewport_size({"width": width, "height": 900})
            shown = [image.bounding_box() for image in page.query_selector_all("img")]
            assert all(box["x"] + box["width"] <= width and box["height"] > 80 for box in shown)
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert not said
