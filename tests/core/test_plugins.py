"""Plug-ins: the package of the guide adds each kind; a broken one is one line and stops nothing else."""

from __future__ import annotations

import json
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamseg.backends import load_backend
from streamseg.backends.loading import DEFAULT_NET
from streamseg.capture import list_clips, open_source
from streamseg.capture.live import is_live, open_live
from streamseg.cli import main
from streamseg.core.errors import EngineError, SinkError, SourceError, UsageError
from streamseg.core.plugins import KINDS, plugins
from streamseg.core.types import InputSpec, SourceInfo
from streamseg.engines.manifest import Manifest
from streamseg.sinks import CsvRecords, open_sink

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "plugins.md"
Install = Callable[..., None]


def blocks(language: str) -> list[str]:
    """The guide's blocks of code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a module with entry points where Python finds it, as pip does."""
    modules: list[str] = []

    def put(module: str, code: str, points: dict[str, dict[str, str]], *, package: str = "") -> None:
        package = package or module.replace("_", "-")
        place = tmp_path / package
        info = place / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (place / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [
            line
            for group, names in points.items()
            for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(place))
        modules.append(module)

    yield put
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def example(install: Install) -> None:
    """The guide's package."""
    project = tomllib.loads(blocks("toml")[0])["project"]
    install("streamseg_example", blocks("python")[0], project["entry-points"], package=project["name"])


def bright_engine(folder: Path) -> Path:
    """An engine folder that the guide's back end runs."""
    folder.mkdir()
    spec = InputSpec(96, 128, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
    made = Manifest("b", "unet", "bright", "fp32", True, True, spec, "0" * 64, {}, portable=True)
    made.write(folder)
    return folder


@pytest.mark.usefixtures("example")
def test_the_package_of_the_guide_adds_one_of_each_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {kind: list(plugins(kind)) for kind in KINDS} == {
        "sources": ["stripes"],
        "sinks": ["areas"],
        "displays": ["terminal"],
        "backends": ["bright"],
    }
    engine = str(bright_engine(tmp_path / "engine"))
    out = tmp_path / "found.areas"
    code = main(["replay", "stripes:12", "--engine", engine, "--roi", "none", "--records", str(out)])
    assert code == 0, capsys.readouterr().err
    lines = [line.split() for line in out.read_text().splitlines()]
    assert [int(index) for index, _ in lines] == list(range(12))
    assert any(int(area) > 0 for _, area in lines)
    code = main(["live", "stripes:12", "--engine", engine, "--roi", "none", "--display", "terminal"])
    shown = capsys.readouterr().out.splitlines()
    assert code == 0
    assert shown[0] == "showing stripes:12"
    assert "nerve " in shown
    assert shown[-1].startswith("source ended")


@pytest.mark.usefixtures("example")
def test_what_cannot_be_said_to_a_plug_in_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="source stripes of streamseg-example cannot start at 2 s"):
        open_source("stripes:3", start_seconds=2)
    with pytest.raises(SourceError, match="stripes of streamseg-example failed: ValueError"):
        open_source("stripes:many")
    path = tmp_path / "a.areas"
    path.touch()
    with pytest.raises(SinkError, match=r"sink areas of streamseg-example failed: FileExistsError"):
        open_sink(path, SourceInfo("x", 1, 1), header={})
    assert list_clips("stripes:3") == ["stripes:3"]


BROKEN = """
import time
class Live:
    live = True
    def __init__(self, uri): raise OSError("no such probe")
class Cut:
    live = False
    info = None
    def __init__(self, uri): ...
    def __iter__(self):
        raise KeyError("lost")
        yield
    def close(self): ...
    def __enter__(self): return self
    def __exit__(self, *exc): ...
def not_one(*arguments, **options): return 5
class Display:
    name = "x"
    def __init__(self, *, title): ...
    def show(self, view): raise ValueError("no screen\\nat all")
    def poll(self): return []
    def close(self): ...
number = 7
"""


@pytest.fixture
def broken(install: Install) -> None:
    install(
        "broken_parts",
        BROKEN,
        {
            "streamseg.sources": {
                "probe": "broken_parts:Live",
                "cut": "broken_parts:Cut",
                "five": "broken_parts:not_one",
                "gone": "broken_parts:missing",
                "nowhere": "no_such_module:x",
                "number": "broken_parts:number",
                "phantom": "broken_parts:not_one",
            },
            "streamseg.displays": {"wall": "broken_parts:Display", "web": "broken_parts:not_one"},
            "streamseg.backends": {"five": "broken_parts:not_one", "openvino": "broken_parts:not_one"},
            "streamseg.sinks": {"five": "broken_parts:not_one", "csv": "broken_parts:not_one"},
        },
    )
    install("other_parts", "x = dict", {"streamseg.sources": {"twice": "other_parts:x"}})
    install("more_parts", "x = dict", {"streamseg.sources": {"twice": "more_parts:x"}})


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("five:1", "source five of broken-parts gave a int, which is no Source"),
        ("gone:1", "source gone of broken-parts cannot be imported: AttributeError"),
        ("nowhere:1", "source nowhere of broken-parts cannot be imported: ModuleNotFoundError"),
        ("number://1", "source number of broken-parts is a int, which cannot be called"),
        ("twice:1", "source twice of more-parts, other-parts: several packages declare it"),
        ("probe:1", "source probe of broken-parts is live; only 'streamseg live' opens it"),
    ],
)
def test_a_broken_source_is_one_line(uri: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(uri)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert is_live(uri) == (uri == "probe:1")


@pytest.mark.usefixtures("broken")
def test_what_a_plug_in_raises_becomes_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="source probe of broken-parts failed: OSError: no such probe"):
        open_live("probe:1")
    source = open_source("cut:1")
    with pytest.raises(SourceError, match="source cut of broken-parts failed: KeyError"):
        list(source)
    with pytest.raises(UsageError, match="sink five of broken-parts gave a int"):
        open_sink(tmp_path / "a.five", SourceInfo("x", 1, 1), header={})
    folder = bright_engine(tmp_path / "engine")
    with pytest.raises(EngineError, match="'bright', unknown to this version"):
        load_backend(folder)


@pytest.mark.usefixtures("broken")
def test_a_display_that_fails_ends_the_run_with_one_line(
    engine_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "live.jsonl"
    arguments = ["live", "phantom:?size=96x64", "--engine", str(engine_folder), "--records", str(records)]
    assert main([*arguments, "--display", "wall"]) == 1
    err = capsys.readouterr().err
    assert "error: display wall of broken-parts failed: ValueError: no screen" in err
    assert records.exists()
    assert not [t for t in threading.enumerate() if t.name.startswith("streamseg-")]


@pytest.fixture
def engine_folder(tmp_path: Path, install: Install) -> Path:
    code = blocks("python")[0]
    install("bright_part", code, {"streamseg.backends": {"bright": "bright_part:Bright"}})
    return bright_engine(tmp_path / "bright")


@pytest.mark.usefixtures("broken")
def test_our_own_parts_cannot_be_replaced(tmp_path: Path) -> None:
    with open_source("phantom:?frames=1") as source:
        assert source.info.name == "phantom-0"
    with open_live("phantom:?frames=1") as source:
        assert source.info.name == "phantom-0"
    sink = open_sink(tmp_path / "a.csv", SourceInfo("x", 1, 1), header={})
    sink.close()
    assert isinstance(sink, CsvRecords)
    backend = load_backend()
    assert backend.name.startswith(DEFAULT_NET)
    backend.close()


@pytest.mark.usefixtures("broken")
def test_an_unknown_display_names_those_of_plug_ins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "phantom:", "--display", "ceiling"]) == 2
    assert "give window or web or none or wall" in capsys.readouterr().err


@pytest.mark.usefixtures("broken", "example")
def test_doctor_lists_them_with_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    from streamseg.cli.doctor import installed_plugins

    found = installed_plugins()
    assert found["sources stripes"] == "available"
    assert found["sources nowhere"].startswith("source nowhere of broken-parts cannot be imported")
    json.dumps(found)
