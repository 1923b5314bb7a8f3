"""The report: what it says of good rows, of odd ones, and of those that are not for publication."""

from __future__ import annotations

import base64
import copy
import itertools
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streamseg.benchmark.report import live_charts, nets_charts
from streamseg.benchmark.report.reading import runs_of
from streamseg.benchmark.report.write import check_charts, compose, write_report
from streamseg.core.errors import MissingExtra, SinkError
from streamseg.reporting.document import Bullets, Heading, Picture, Table
from tests.benchmark.sample_rows import (
    all_rows,
    blanked,
    make_run,
    nets_rows,
    peers_rows,
    pipeline_rows,
    streams_rows,
)

MAKERS = (nets_rows, pipeline_rows, streams_rows, peers_rows)
COMMON = ("bench", "key", "run", "rounds", "notes")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all benchmarks."""
    path = tmp_path_factory.mktemp("report") / "all.html"
    write_report(all_rows(), path)
    return path


def pictures(page: str) -> list[bytes]:
    return [
        base64.b64decode(found) for found in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    ]


def listed(blocks, heading: str) -> list[str]:
    """The items of the list under a heading; empty where there is none."""
    for block, following in itertools.pairwise(blocks):
        if isinstance(block, Heading) and block.text == heading:
            return list(following.items) if isinstance(following, Bullets) else []
    return []


def of_rows(rows):
    """The blocks of a report of the rows."""
    return compose(runs_of(rows))


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what the report says: drawing takes seconds."""
    for module, names in (
        (nets_charts, ("overview", "histograms", "peers_pictures")),
        (live_charts, ("pipeline_pictures", "streams_pictures")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *arguments: [])


def table_of(blocks, caption: str) -> Table:
    return next(block for block in blocks if isinstance(block, Table) and block.caption == caption)


def test_one_file_holds_everything_and_needs_nothing(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:|//)""", page)
    drawn = pictures(page)
    assert len(drawn) == 10  # rates, limits, a net's histogram each, three of the pipeline, streams, peers
    for picture in drawn:
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg")
        assert b"<text" in picture  # text is text
    assert len(page) < 1_500_000


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    pages = [tmp_path / "one.html", tmp_path / "again.html"]
    for page in pages:
        write_report(pipeline_rows(), page)
    assert len({page.read_bytes() for page in pages}) == 1
    assert len({page.with_suffix(".md").read_bytes() for page in pages}) == 1


def test_markdown_has_the_same_tables_without_pictures(report: Path) -> None:
    words = report.with_suffix(".md").read_text(encoding="utf-8")
    assert "![" not in words
    assert "not a medical device" in words
    for caption in ("improved U-Net: speed", "Frames and their age", "Streams side by side"):
        assert f"**{caption}**" in words


@pytest.mark.usefixtures("no_charts")
def test_in_short_names_the_fastest_and_what_is_held() -> None:
    found = listed(of_rows(all_rows()), "In short")
    net = next(line for line in found if line.startswith("improved U-Net"))
    assert "fastest in OpenVINO INT8" in net
    assert "Live it holds 30 frames/s" in net
    segnet = next(line for line in found if line.startswith("SegNet (random weights)"))
    assert "Live at 60 frames/s it drops" in segnet
    assert "holds 2 with every frame segmented, and 4 with" in next(x for x in found if "streams" in x)
    assert "faster than ours: OpenVINO, plain" in next(x for x in found if "Peers, runtime" in x)


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
    rows[1]["notes"] = ["frame 7 came out twice"]
    blocks = of_rows(rows)
    assert listed(blocks, "What is wrong or missing") == [
        "streams, 2 streams: frame 7 came out twice",
        "absent: 16 streams: no answer within 60 s",
    ]
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings.index("What is wrong or missing") < headings.index("Streams side by side")


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"quick": True}, "quick run"),
        ({"others_share": 0.23}, "took 23 %"),
        ({"machine": {"commit": "0123abc-dirty"}}, "0123abc-dirty"),
        ({"machine": {"commit": ""}}, "not measured from a commit"),
    ],
)
def test_what_is_not_for_publication_says_so_on_top(given: dict[str, object], words: str) -> None:
    blocks = of_rows(streams_rows(make_run("bench streams", **given)))
    (line,) = listed(blocks, "Not for publication")
    assert words.lower() in line.lower()
    assert next(block.text for block in blocks if isinstance(block, Heading)) == "Not for publication"


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
    assert listed(blocks, "In short")[1].startswith("run 2: ")


def test_every_call_is_in_the_histogram() -> None:
    rows = nets_rows(nets=("unet",))
    calls = sum(row["calls"] for row in rows)
    captions = [block.caption for block in of_rows(rows) if isinstance(block, Picture)]
    assert any(f"all {calls} that were timed" in caption for caption in captions)


def test_several_sizes_are_told_apart() -> None:
    rows = nets_rows(nets=("unet",))
    larger = copy.deepcopy(rows)
    for row in larger:
        row.update(height=416, width=576, batch=8, key=row["key"].replace("192x224 b1", "416x576 b8"))
        row.update(end_to_end_fps=None, end_to_end=None, paced=[])
    blocks = of_rows([*rows, *larger])
    names = [row[0] for row in table_of(blocks, "U-Net (random weights): speed").rows]
    assert len(set(names)) == 10
    assert "OpenVINO INT8, 416x576, batch 8" in names
    drawn = [block.name for block in blocks if isinstance(block, Picture)]
    assert len(set(drawn)) == len(drawn) == 6


@pytest.mark.parametrize("maker", MAKERS)
def test_unknown_figures_are_a_dash(maker) -> None:
    blocks = of_rows([blanked(row) for row in maker()])
    assert not [block for block in blocks if isinstance(block, Picture)]


JUNK = (None, "x", -1, 0, True, [], [[]], {}, {"p50": None}, [{"fps": "a"}], [None, 3])


def spoilt(rows, junk):
    """Rows of which each has one figure of another kind, and one that has none of the right."""
    names = [name for name in rows[0] if name not in COMMON]
    each = [
        {**rows[turn % len(rows)], name: next(junk), "a figure of tomorrow": 3}
        for turn, name in enumerate(names)
    ]
    return [*each, {**rows[0], **dict.fromkeys(names, next(junk))}]


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("maker", MAKERS)
def test_figures_of_another_kind_never_break_it(maker, junk: object) -> None:
    assert of_rows(spoilt(maker(), itertools.repeat(junk)))


@pytest.mark.parametrize("maker", MAKERS)
def test_figures_of_another_kind_never_break_a_chart(maker) -> None:
    assert of_rows(spoilt(maker(), itertools.cycle(JUNK)))


@pytest.mark.slow
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("maker", MAKERS)
def test_no_figure_of_another_kind_breaks_a_chart(maker, junk: object) -> None:
    assert of_rows(spoilt(maker(), itertools.repeat(junk)))


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("run", [None, "x", {}, {"machine": None, "limits": 3, "absent": "y", "regime": []}])
def test_a_run_that_says_little_never_breaks_it(run: object) -> None:
    assert of_rows([{**row, "run": run, "notes": None} for row in all_rows()[::5]])


@pytest.mark.usefixtures("no_charts")
def test_rows_of_a_kind_that_is_unknown_are_named() -> None:
    row = {"bench": "weather", "key": "rain", "run": make_run("bench weather"), "rounds": {}, "notes": []}
    assert listed(of_rows([row]), "weather") == []  # a paragraph comes between
    assert any(isinstance(block, Bullets) and block.items == ["rain"] for block in of_rows([row]))


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


@pytest.mark.parametrize("width", [1280, 480])
def test_a_browser_shows_it_without_scripts_and_without_the_network(report: Path, width: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested by playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here; install the package chromium")
    asked, said = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=False)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(report.as_uri())
        shown = [image.bounding_box() for image in page.query_selector_all("img")]
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert not said
    assert all(box["x"] + box["width"] <= width and box["height"] > 80 for box in shown)
