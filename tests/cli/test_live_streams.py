"""``streamseg live`` with several sources, from its arguments to its figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamseg.cli import main
from streamseg.live.config import FOLDER_VARIABLE, LiveConfig, save_profile
from streamseg.sinks import read_records
from tests.cli.conftest import ClipWriter
from tests.rtsp_server.server import serve, why_not
from tests.web.feeding import Reader

STREAMSEG = [sys.executable, "-m", "streamseg"]
SMALL = ["phantom:?size=96x64&seed=1", "phantom:?size=96x64&seed=2"]
needs_server = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "profiles"))


def test_every_stream_has_its_own_figures_and_files(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [write_clip(tmp_path / f"clip-{count}.mp4", count) for count in (20, 35)]
    records, runs = tmp_path / "live.jsonl", tmp_path / "runs"
    code = main(
        [
            *("live", *map(str, clips), "--engine", str(engine), "--roi", "none", "--display", "none"),
            *("--json", "--records", str(records), "--record", str(runs), "--age-budget", "60000"),
        ]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    report = json.loads(out)
    assert report.keys() == {"streams", "engine"}
    assert [each["source"] for each in report["streams"]] == ["clip-20.mp4", "clip-35.mp4"]
    assert [each["offered"] for each in report["streams"]] == [20, 35]
    assert not records.exists()
    for number, each in enumerate(report["streams"], 1):
        header, frames = read_records(tmp_path / f"live-{number}.jsonl")
        assert header["source"] == each["source"]
        assert len(frames) == each["processed"] > 0
        assert f"stream {number}: {each['offered']} frames offered" in err
        (recorded,) = (runs / f"stream-{number}").iterdir()
        assert (recorded / "original-0001.mp4").exists()


def test_a_stream_that_fails_leaves_the_others_and_is_the_exit_code(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    good, cut = write_clip(tmp_path / "good.mp4", 30), tmp_path / "cut.mkv"
    write_clip(cut, 60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    code = main(
        ["live", str(cut), str(good), "--engine", str(engine), "--roi", "none", "--display", "none", "--json"]
    )
    out, err = capsys.readouterr()
    assert code == 1
    broken, whole = json.loads(out)["streams"]
    assert "cut" in broken["error"]
    assert (whole["error"], whole["offered"]) == (None, 30)
    assert "stream 1: ended by an error: " in err
    assert err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SMALL], "a window shows one source, and there are 2; add --display web"),
        ([*SMALL, "--display", "web", "--igtl", "0"], "--igtl serves one source"),
        (
            [*SMALL, "--display", "none", "--save-profile", "x"],
            "--save-profile saves the settings of one source",
        ),
        ([*SMALL, "--display", "none", "--roi", "1,2,30,40"], "--roi belongs to one source"),
        ([*SMALL, "--display", "none", "--mm-per-pixel", "0.1"], "--mm-per-pixel belongs to one source"),
        ([*SMALL, "--display", "none", "--sar", "4:3"], "--sar belongs to one source"),
        ([SMALL[0], SMALL[0], "--display", "none"], "is given 2 times; give each source once"),
        ([*SMALL, "nothing.mp4", "--display", "none"], "nothing.mp4"),
        ([*SMALL, "nothing.mp4", "--display", "none", "--roi", "none"], "nothing.mp4"),
        ([*SMALL, "--display", "none", "--records", "x.txt"], "x-1.txt: live records are JSON lines"),
        ([*SMALL, "--profile", "a", "--profile", "b"], "several profiles are a stream each"),
        (["--profile", "a", "--profile", "nowhere"], "there is no profile 'nowhere'"),
        (["--profile", "a", "--profile", "other"], "profiles a and other differ in opacity (0.25 and 0.5)"),
        (["--profile", "a", "--profile", "empty", "--opacity", "0"], "profile empty has no source"),
        (["--profile", "a", "--profile", "b", "--roi", "1,2,3,4"], "--roi belongs to one source"),
        ([f"phantom:?seed={number}" for number in range(17)], "17 sources are too many"),
        (["rtsp://u:s3cret@h/x"] * 2, "source rtsp://h/x is given 2 times"),
    ],
)
def test_what_makes_no_sense_with_several_sources_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_profile("a", LiveConfig(source=SMALL[0], display="none"))
    save_profile("b", LiveConfig(source=SMALL[1], display="none"))
    save_profile("other", LiveConfig(source=SMALL[1], display="none", opacity=0.5))
    save_profile("empty", LiveConfig(roi="none"))
    assert main(["live", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "s3cret" not in err


def test_a_stream_for_each_profile_with_its_own_scale_and_region(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_profile("a", LiveConfig(source=SMALL[0], mm_per_pixel=0.1, roi="8,8,64,48"))
    save_profile("b", LiveConfig(source=SMALL[1], mm_per_pixel=0.2, roi="none"))
    records = tmp_path / "live.jsonl"
    code = main(
        [
            *("live", "--profile", "a", "--profile", "b", "--engine", str(engine), "--display", "none"),
            *("--records", str(records), "--seconds", "1.5", "--age-budget", "60000"),
        ]
    )
    assert code == 0, capsys.readouterr().err
    found = [read_records(tmp_path / f"live-{number}.jsonl") for number in (1, 2)]
    assert [header["profile"] for header, _ in found] == ["a", "b"]
    assert [header["setup"]["mm_per_pixel"] for header, _ in found] == [0.1, 0.2]
    assert [header["setup"]["roi"] for header, _ in found] == ["8,8,64,48", "none"]
    assert all(frames for _, frames in found)


@needs_server
def test_a_server_that_dies_and_comes_back_touches_its_own_tile_only(engine: Path, tmp_path: Path) -> None:
    with serve(width=96, height=64, fps=25) as one, serve(width=128, height=96, fps=25) as other:
        command = [*STREAMSEG, "live", one.url, other.url, "--engine", str(engine), "--roi", "none"]
        command += ["--display", "web", "--port", "0", "--json", "--seconds", "600"]
        command += ["--record", str(tmp_path / "runs")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                found = (re.search(r":(\d+)/ in", line) for line in process.stderr)
                port = next(int(match[1]) for match in found if match)
                with Reader(port, path="1/tile") as first, Reader(port, path="2/tile") as second:
                    for page, size in ((first, [96, 64]), (second, [128, 96])):
                        until_view(page, lambda view, size=size: view.get("size") == size)
                    one.kill()
                    until_view(first, lambda view: view["state"] == "source lost")
                    before = second.views[-1][0]["figures"]["offered"] if second.views else 0
                    until_view(second, lambda view: view["figures"]["offered"] > before + 10)
                    assert all(view["figures"]["reconnects"] == 0 for view, _ in second.views)
                    one.restart()
                    until_view(first, lambda view: view["figures"]["reconnects"] == 1)
                    assert all(view.get("size") in (None, [128, 96]) for view, _ in second.views)
                process.terminate()
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
    assert process.returncode == 143, err
    lost, steady = json.loads(out)["streams"]
    assert lost["reconnects"] >= 1
    assert lost["states"]["source lost"] > 0
    assert steady["reconnects"] == 0
    assert "stream 1: source lost: " in err
    assert "stream 2: source lost: " not in err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["stream-1", "stream-2"]


def until_view(page: Reader, good: object) -> None:
    """Read the views of a tile until one is as expected."""
    end = time.monotonic() + 120
    seen = len(page.views)
    while True:
        page.read()
        if len(page.views) > seen and good(page.views[-1][0]):  # type: ignore[operator]
            return
        assert time.monotonic() < end, page.views[-1:]
