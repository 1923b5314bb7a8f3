"""Files that streamseg wrote at f5f4443 are read and carried on, and give what they gave then."""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import streamseg
from streamseg.backends.loading import DEFAULT, shipped_engine, shipped_nets
from tests.compat.parts import MADE, engine_name, identity, read_manifest, read_records, run

BRIGHT, DATA = MADE / "bright", MADE / "data"
SHIPPED = Path(streamseg.__file__).parent / "weights/improved_unet-openvino-int8"
SHIPPED_SHA256 = "2e2688d2b4153c5443316b5c3d872f370d337738ed59bb5224c8b8eef1f187e2"
"""Of the shipped engine's manifest, which names the hash of every file: its identity in records."""
WEIGHTS_SHA256 = "799b6b1ed38a052eb1f693de9c5168022b0a3d6bfba988586ac377644e96b16e"
"""Of the shipped weights, which every manifest of an engine of theirs holds."""


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# Profiles


def test_a_profile_sets_up_a_run(tmp_path: Path) -> None:
    """Every key that a profile can have is in this one."""
    records = tmp_path / "a.jsonl"
    ran = run("live", "--profile", "theatre-2", "--seconds", 0.3, "--records", records, "--json")
    assert ran.json["engine"] == {"name": "improved_unet-openvino-int8", "sha256": SHIPPED_SHA256}
    header, _ = read_records(records)
    assert header["profile"] == "theatre-2"
    assert header["setup"] == {
        "source": "phantom:?seed=3&size=192x144&frames=45",
        "roi": "8,8,176,128",
        "mm_per_pixel": 0.125,
        "age_budget_ms": 120.0,
        "engine": "improved_unet-openvino-int8",
        "transport": "udp",
        "size": "640x480",
        "rate": "30000/1001",
        "pixel_format": "nv12",
        "sar": None,
        "pace": False,
        "display": "none",
        "full_screen": True,
        "opacity": 0.5,
        "vessels": True,
        "full_frame": True,
        "host": "127.0.0.2",
        "port": 9000,
    }


def test_a_profile_is_saved_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_PROFILES", str(tmp_path / "profiles"))
    shutil.copytree(MADE / "profiles", tmp_path / "profiles")
    run("live", "--profile", "theatre-2", "--engine", BRIGHT, "--seconds", 0.1, "--save-profile", "again")
    saved = (tmp_path / "profiles/again.toml").read_text()
    expected = (MADE / "profiles/theatre-2.toml").read_text()
    assert saved == expected.replace('"improved_unet-openvino-int8"', f'"{BRIGHT}"')


# Recordings and records


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    """Frames without pixels are left out; those with pixels keep their order and times."""
    records = tmp_path / "a.jsonl"
    ran = run("replay", MADE / "recording", "--engine", BRIGHT, "--records", records, "--json")
    then = [json.loads(line) for line in (MADE / "recording/records.jsonl").read_text().splitlines()]
    kept = [line for line in then if line["type"] == "offered" and line["video"] is not None]
    assert ran.json["frames"] == len(kept) == 29
    assert (ran.json["roi"], ran.json["roi_from"]) == ([0, 0, 96, 72], "source")
    _, frames = read_records(records)
    times = [frame["pts"] - frames[0]["pts"] for frame in frames]
    captured = [(line["captured_ns"] - kept[0]["captured_ns"]) / 1e9 for line in kept]
    assert times == pytest.approx(captured, abs=1e-5)
    found = {line["index"]: line["area_px"] for line in then if line["type"] == "frame"}
    areas = [found[line["index"]] for line in kept]
    assert [frame["area_px"] for frame in frames] == pytest.approx(areas, rel=0.1), "encoded with a loss"


def test_a_recording_is_repeated_as_it_was_recorded() -> None:
    report = run("replay", MADE / "recording", "--as-recorded", "--engine", BRIGHT, "--json").json
    then = report["recorded"]
    assert (then["offered"], then["processed"], then["dropped"], then["absent"]) == (29, 29, 0, 0)
    assert {state: round(seconds, 2) for state, seconds in then["states"].items()} == {"low confidence": 0.93}
    assert report["offered"] == 29


@pytest.mark.parametrize(
    ("name", "frames", "states"),
    [
        ("replay.jsonl", 12, {"nerve": 10, "low confidence": 2}),
        ("live.jsonl", 30, {"low confidence": 30}),
        ("recording/records.jsonl", 30, {"low confidence": 30}),
    ],
)
def test_records_are_read(name: str, frames: int, states: dict[str, int]) -> None:
    header, found = read_records(MADE / name)
    assert (header["type"], header["format"], header["version"]) == ("header", "streamseg-records-1", "0.1.0")
    assert [frame["index"] for frame in found] == list(range(frames))
    assert {state: sum(frame["state"] == state for frame in found) for state in states} == states


def test_csv_records_say_what_json_records_say() -> None:
    _, frames = read_records(MADE / "replay.jsonl")
    with (MADE / "replay.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == [frame["index"] for frame in frames]
    assert [json.loads(row["polygons"]) for row in rows] == [frame["polygons"] for frame in frames]


def test_a_replay_finds_what_it_found_then(tmp_path: Path) -> None:
    """The shipped engine on the same phantom; INT8 kernels may differ a little between processors."""
    records = tmp_path / "a.jsonl"
    run("replay", "phantom:?seed=3&frames=12", "--engine", SHIPPED.name, "--records", records)
    header, now = read_records(records)
    old_header, then = read_records(MADE / "replay.jsonl")
    assert header["engine"] == old_header["engine"]
    assert [frame["pts"] for frame in now] == [frame["pts"] for frame in then]
    areas = [frame["area_px"] for frame in then]
    assert [frame["area_px"] for frame in now] == pytest.approx(areas, rel=0.1)
    same = sum(a["state"] == b["state"] for a, b in zip(now, then, strict=True))
    assert same >= len(then) - 2


# Training


@pytest.fixture
def training_run(tmp_path: Path) -> Path:
    """A run that SIGTERM stopped after two epochs of four. Its weights are all zero, to be small."""
    folder = shutil.copytree(MADE / "run", tmp_path / "run")
    for path in folder.glob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return folder


@pytest.mark.slow  # at the net's full width
def test_a_training_run_goes_on(training_run: Path) -> None:
    run_then, log_then = read(training_run / "run.json"), (training_run / "log.jsonl").read_text()
    ran = run(
        *("train", DATA, "--net", "unet", "--size", "32x48", "--epochs", 4, "--batch", 2),
        *("--validation", 0.25, "--device", "cpu", "--out", training_run, "--resume", "--json"),
    )
    assert (ran.json["epoch"], ran.json["step"]) == (4, 12)
    assert "epoch 3/4" in ran.err
    assert "epoch 2/4" not in ran.err
    run_now = read(training_run / "run.json")
    assert run_now["config"].items() >= run_then["config"].items()  # with settings that came later
    assert run_now | {"config": {}} == run_then | {"epoch": 4, "finished": True, "config": {}}
    log = (training_run / "log.jsonl").read_text()
    assert log.startswith(log_then)
    assert len(log.splitlines()) == 4
    assert len(read(training_run / "losses.json")) == 12
    assert read(training_run / "losses.json")[:6] == read(MADE / "run/losses.json")
    shutil.rmtree(training_run)  # weights are large


def test_a_training_run_of_other_settings_is_refused() -> None:
    ran = run(
        *("train", DATA, "--net", "unet", "--size", "32x48", "--epochs", 5, "--batch", 2),
        *("--validation", 0.25, "--device", "cpu", "--out", MADE / "run", "--resume"),
        expect=2,
    )
    assert "epochs 4 (now 5)" in ran.err
    assert ran.err.count("now") == 1, "nothing else is another"


def test_weights_of_a_run_are_an_engine(training_run: Path) -> None:
    ran = run("evaluate", DATA, "--engine", training_run / "weights.safetensors", "--limit", 2, "--json")
    sha256 = hashlib.sha256((training_run / "weights.safetensors").read_bytes()).hexdigest()
    assert ran.json["engine"]["sha256"] == sha256
    assert ran.json["images"] == 2
    shutil.rmtree(training_run)


# Reproduction


def test_a_finished_reproduction_is_reported_without_training(tmp_path: Path) -> None:
    out = shutil.copytree(MADE / "reproduce", tmp_path / "reproduce")
    expected = read(out / "result.json")
    (out / "result.json").unlink()
    ran = run(
        *("reproduce", DATA, "--out", out, "--nets", "unet,improved_unet", "--folds", 2, "--size", "32x32"),
        *("--epochs", 1, "--batch", 2, "--rate", 0.0003, "--device", "cpu"),
        *("--export", tmp_path / "exported", "--json"),
    )
    assert "epoch" not in ran.err
    assert ran.json == read(out / "result.json")
    # new keys apart; "images" because earlier versions stored no subjects
    assert rounded(kept(ran.json, expected)) == rounded(expected)
    assert ran.json["resampled"] == "images"
    assert [
        line for line in tables(MADE / "reproduce-data.md") if line not in tables(out / "report.md")
    ] == []
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {
        f"reproduce-data{end}" for end in (".json", ".md", "-loss.svg", "-dice.svg")
    }
    assert (out / "report.html").is_file()


def test_a_reproduction_of_other_settings_is_refused() -> None:
    ran = run("reproduce", DATA, "--out", MADE / "reproduce", "--folds", 3, "--device", "cpu", expect=2)
    for words in ("folds 2 (now 3)", "nets unet,improved_unet (now", "rate 0.0003 (now", "size 32x32 (now"):
        assert words in ran.err


def kept(found: Any, expected: Any) -> Any:
    """What was found, of the keys that were expected."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return {key: kept(found[key], value) for key, value in expected.items()}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [kept(*pair) for pair in zip(found, expected, strict=True)]
    return found


def rounded(value: Any) -> Any:
    """Numbers to nine digits: sums may differ in the last one between processors."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def tables(path: Path) -> list[str]:
    """The lines of a report's tables, all that stands between bars."""
    return [line for line in path.read_text().splitlines() if line.startswith("|")]


# Engines


@pytest.mark.parametrize("name", [path.name for path in sorted((MADE / "engines").iterdir())])
def test_an_engine_keeps_its_key(name: str) -> None:
    """The key at the end of its name hashes what makes it another engine."""
    manifest, sha256 = read_manifest(MADE / "engines" / name)
    assert engine_name(manifest) == manifest.name == name
    assert sha256 == hashlib.sha256((MADE / "engines" / name / "manifest.json").read_bytes()).hexdigest()
    where = identity(manifest)
    gpu = manifest.backend == "tensorrt"
    assert list(where) == ["compute_capability" if gpu else "features", "versions"]


@pytest.mark.parametrize(
    "folder", [*sorted((MADE / "engines").iterdir()), BRIGHT, SHIPPED], ids=lambda path: path.name
)
def test_a_manifest_is_written_as_it_was(folder: Path, tmp_path: Path) -> None:
    """Byte by byte, its seal included: the hash of this file is what records call the engine."""
    manifest, _ = read_manifest(folder)
    manifest.write(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_engines_are_listed(tmp_path: Path) -> None:
    """What fits is the machine's business; all else is as it was, though more may be said."""
    shutil.copytree(MADE / "engines", tmp_path / "store")
    listed = run("engines", "list", "--json").json
    assert listed["default"] == DEFAULT
    for row, old in zip(listed["engines"], read(MADE / "engines-list.json"), strict=True):
        assert {key: row[key] for key in old} == old


def test_engines_lack_nothing_but_their_files(tmp_path: Path) -> None:
    """The manifests alone are here: seal, name, key and accuracy gate are as they should be."""
    shutil.copytree(MADE / "engines", tmp_path / "store")
    found = run("engines", "verify", "--json", expect=1).json["engines"]
    shipped = [shipped_engine(net).name for net in shipped_nets()]
    assert SHIPPED.name in shipped
    assert [(one["name"], one["problems"]) for one in found[:-5]] == [(name, []) for name in shipped]
    for engine in found[-5:]:
        files = read(tmp_path / "store" / engine["name"] / "manifest.json")["files"]
        assert engine["problems"] == [f"{name} is missing" for name in sorted(files)]


def test_an_engine_folder_runs() -> None:
    engine = run("evaluate", DATA, "--engine", BRIGHT, "--json").json["engine"]
    assert engine == {
        "name": "bright",
        "sha256": "0d711fbe3ce9bc60396bf3d650f1f9e735e01bbffddf1d50df4c06c3e0fd281d",
    }


def test_the_shipped_engine_is_the_same() -> None:
    manifest, sha256 = read_manifest(SHIPPED)
    assert sha256 == SHIPPED_SHA256
    assert manifest.checkpoint_sha256 == WEIGHTS_SHA256
    weights = SHIPPED.parent / "improved_unet.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == WEIGHTS_SHA256
    assert engine_name(manifest) == "improved_unet-openvino-int8-192x224-b1-81420ae1"
    assert identity(manifest) == {}, "it is portable"


# Submission


def test_a_broken_off_submission_goes_on(tmp_path: Path) -> None:
    """Two of four images could not be read then, and are replaced now."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(1, 5):
        shutil.copy(DATA / f"images/{number}.png", images)
        os.utime(images / f"{number}.png", ns=(0, 1_700_000_000_000_000_000 + number))
    out, progress = tmp_path / "a.csv", tmp_path / "a.csv.progress"
    first, *lines = (MADE / "submission.csv.progress").read_text().splitlines()
    # Another version of streamseg begins anew, as it should.
    first = json.dumps(json.loads(first) | {"version": streamseg.__version__})
    progress.write_text("".join(f"{line}\n" for line in (first, *lines)))
    ran = run("submit", images, "--engine", BRIGHT, "--out", out, "--json")
    assert "2 of 4 images are finished already" in ran.err
    assert ran.json["images"] == 4
    assert not progress.exists()
    written = out.read_text().splitlines()
    assert written[0] == "img,pixels"
    assert written[1:3] == [f"{number},{json.loads(line)[3]}" for number, line in enumerate(lines, 1)]
    assert len(written) == 5
