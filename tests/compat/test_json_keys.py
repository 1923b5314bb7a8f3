"""Every JSON key that a command writes is one that it wrote at f5f4443, and none is missing.

What is compared, and how the list is renewed: :mod:`tests.compat.shapes`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import struct
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from streamseg.adaptation.comparison import Outlines, compare
from streamseg.adaptation.history import History
from streamseg.adaptation.round import AdaptRequest
from streamseg.cli.adapt import _report
from streamseg.core.types import InputSpec, State
from streamseg.datasets import Sample
from streamseg.datasets.phantoms import draw_phantoms
from tests.adaptation.test_history import make_history, make_round
from tests.backends.small_engines import small_model, write_engine
from tests.compat.parts import MADE, RESULTS, narrow_nets, run, small_kernels
from tests.compat.shapes import Shape, check, check_keys, read_lines
from tests.optional import needs
from tests.render.examples import outline_vessels
from tests.waiting import wait_for

__all__ = ["small_kernels"]  # the benchmarks here take no time for the machine's limits

BRIGHT, DATA = MADE / "bright", MADE / "data"
CLIP = MADE / "recording/original-0001.mp4"


def test_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an engine for nerves alone, and by one that outlines vessels too."""
    records, table, both = tmp_path / "a.jsonl", tmp_path / "a.csv", tmp_path / "b.jsonl"
    ran = run("replay", "phantom:?frames=20", "--records", records, "--records", table, "--json")
    outline_vessels(monkeypatch)
    run("replay", "phantom:?frames=3&nerve=always", "--records", both)
    check_keys("replay --json", [ran.json])
    lines, more = read_lines(records), read_lines(both)
    check_keys("replay --records: header", [*lines.pop("header"), *more["header"]])
    check_keys("replay --records: frame", [*lines.pop("frame"), *more["frame"]])
    assert not lines
    (columns,) = list(csv.reader(io.StringIO(table.read_text())))[:1]
    check_keys("replay --records: CSV columns", [{f"{n:02} {name}": name for n, name in enumerate(columns)}])


def test_replay_of_a_folder_of_clips(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(CLIP, tmp_path / "clips" / name)
    ran = run(
        *("replay", tmp_path / "clips", "--engine", BRIGHT, "--roi", "2,2,80,60", "--max-frames", 3),
        *("--records", tmp_path / "records", "--json"),
    )
    assert len(ran.json["clips"]) == 2
    check_keys("replay FOLDER --json", [ran.json])


def test_replay_as_recorded() -> None:
    ran = run("replay", MADE / "recording", "--as-recorded", "--engine", BRIGHT, "--json")
    check_keys("replay --as-recorded --json", [ran.json])


def test_live_with_its_page_recording_and_records(tmp_path: Path) -> None:
    """One run shows all: what it prints, records and answers a watchdog and Prometheus."""
    err, answers = io.StringIO(), Answers()
    asking = threading.Thread(target=answers.ask, args=(err,), daemon=True)
    asking.start()
    ran = run(
        *("live", "phantom:?size=96x72", "--engine", BRIGHT, "--display", "web", "--port", 0),
        *("--seconds", 4, "--record", tmp_path / "recordings", "--records", tmp_path / "a.jsonl", "--json"),
        err=err,
    )
    asking.join(30)
    assert answers.health, f"the page did not answer in time: {answers.error}"
    check_keys("live --json", [ran.json])
    check_keys("live: /healthz", answers.health)
    names = figures(answers.metrics)
    shape = Shape.of([names])
    shape.types.update({name: {kind} for name, kind in names.items()})
    check("live: /metrics", shape)
    records = read_lines(tmp_path / "a.jsonl")
    for kind in ("header", "frame", "state"):
        check_keys(f"live --records: {kind}", records.pop(kind))
    assert not records
    (recording,) = (tmp_path / "recordings").iterdir()
    lines = read_lines(recording / "records.jsonl")
    for kind in ("header", "segment", "offered", "frame", "view", "end"):
        check_keys(f"live --record: {kind}", lines.pop(kind))
    assert not lines


def test_live_without_a_display() -> None:
    ran = run(
        *("live", "phantom:?size=96x72", "--engine", BRIGHT, "--display", "none", "--seconds", 1, "--json")
    )
    check_keys("live --json", [ran.json])


class Answers:
    """What the page's server answers while a run lasts, with one page connected."""

    def __init__(self) -> None:
        self.health: list[dict[str, Any]] = []
        self.metrics = ""
        self.error: Exception | None = None

    def ask(self, err: io.StringIO) -> None:
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", err.getvalue())):
                time.sleep(0.01)
            self._ask(int(found[1]))
        except Exception as error:  # the main thread tells it
            self.error = error

    def _ask(self, port: int) -> None:
        page = f"http://127.0.0.1:{port}"
        with connect(f"ws://127.0.0.1:{port}/ws", origin=page, proxy=None) as connection:
            # The loop counts for a second or so before it has figures.
            while not all(
                f"streamseg_{name}{{" in self.metrics for name in ("age_seconds", "web_age_seconds")
            ):
                message = connection.recv(timeout=20)
                if isinstance(message, bytes):
                    (length,) = struct.unpack_from("<I", message)
                    view = json.loads(message[4 : 4 + length])["view"]
                    connection.send(json.dumps({"ack": view, "age": 12.5, "at": 1.0}))
                    self.metrics = get(f"{page}/metrics").decode()
            self.health.append(json.loads(get(f"{page}/healthz")))


def get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:  # 503 is an answer too
        return error.read()


def figures(text: str) -> dict[str, str]:
    """Names with labels and types of figures in the text format of Prometheus."""
    kinds: dict[str, str] = {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            kinds[name] = kind
        elif line and not line.startswith("#"):
            name = line.rpartition(" ")[0]
            found[name] = kinds[name.partition("{")[0]]
    return found


def test_evaluate(tmp_path: Path) -> None:
    """By an engine for nerves alone, and by one that outlines vessels too."""
    spec = InputSpec(64, 96, mean=0.5, std=0.05, threshold=0.5, structures=("nerve", "vessel"))
    both = write_engine(tmp_path / "both", small_model(spec, outputs=2), spec)
    draw_phantoms(tmp_path / "phantoms", 4, print)
    call = ("evaluate", DATA, "--engine", BRIGHT, "--json")
    more = ("evaluate", tmp_path / "phantoms", "--engine", both, "--json")
    check_keys("evaluate --json", [run(*call).json, run(*call, "--spacing", 0.1).json, run(*more).json])
    per_image = [run(*each, "--per-image").json for each in (call, more)]
    check_keys("evaluate --per-image --json", per_image)


def test_check(tmp_path: Path) -> None:
    data = shutil.copytree(DATA, tmp_path / "data")
    shutil.copy(data / "images/1.png", data / "images/9.png")
    shutil.copy(data / "masks/3.png", data / "masks/9.png")
    (data / "images/8.png").write_bytes(b"no image")
    ran = run("check", data, "--json", expect=1)
    assert ran.json["near_identical"]
    check_keys("check --json", [ran.json])


def test_select_and_import(tmp_path: Path) -> None:
    source = "phantom:?frames=40&size=96x64"
    selected = run("select", source, "--frames", 2, "--out", tmp_path / "s", "--engine", BRIGHT, "--json")
    check_keys("select --json", [selected.json])
    imported = run("import", tmp_path / "s", "--out", tmp_path / "d", "--all-looked-at", "--json")
    check_keys("import --json", [imported.json])


def test_adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed of a round, without its training, and the files that the next call reads."""
    samples = [Sample(str(n), np.zeros((2, 2), np.uint8), np.ones((2, 2), np.bool_), None) for n in range(3)]
    found = [Outlines({"nerve": np.ones((2, 2), np.bool_)}, State.NERVE, 0.5)] * 3
    several = compare(samples, found, found, (0.1, 0.1), rival=found)
    single = compare(samples[:1], found[:1], found[:1], (0.1, 0.1))
    refused = replace(make_round(1), figures=several.to_json(), reasons=("it is worse",), accepted=False)
    accepted = replace(make_round(2), figures=single.to_json(), subjects=None, profile="a", engine_before="b")
    history = History(tmp_path / "adapted" / "lab").with_round(refused)
    printed = []
    for done in (refused, accepted):
        capsys.readouterr()
        _report(AdaptRequest(tmp_path, "lab", out=tmp_path / "adapted"), history, done, True)
        printed.append(json.loads(capsys.readouterr().out))
    check_keys("adapt --json", printed)
    stored = []
    for one in (history, history.with_round(accepted)):
        one.write()
        stored.append(json.loads((history.folder / "history.json").read_text()))
    check_keys("adapt: history.json", stored)
    make_history(tmp_path / "adapted" / "lab", True).write()
    undone = run("adapt", "--name", "lab", "--out", tmp_path / "adapted", "--undo", "--json")
    check_keys("adapt --undo --json", [undone.json])


def test_doctor() -> None:
    check_keys("doctor --json", [run("doctor", "--json").json], plain=["versions"])


def test_engines(tmp_path: Path) -> None:
    shutil.copytree(MADE / "engines", tmp_path / "store")
    (tmp_path / "store/unet-openvino-fp32-32x32-b1-00000000").mkdir()
    (tmp_path / "store/unet-openvino-fp32-32x32-b1-00000000/manifest.json").write_text("{}")
    check_keys("engines list --json", [run("engines", "list", "--json").json])
    check_keys("engines verify --json", [run("engines", "verify", "--json", expect=1).json])
    pruned = [run("engines", "prune", *options, "--json").json for options in (["--dry-run"], [])]
    check_keys("engines prune --json", pruned)


def test_phantom(tmp_path: Path) -> None:
    ran = run("phantom", "--out", tmp_path, "--images", 2, "--subjects", 1, "--json")
    check_keys("phantom --json", [ran.json])


def test_submit(tmp_path: Path) -> None:
    call = ("submit", DATA / "images", "--engine", BRIGHT, "--out", tmp_path / "a.csv", "--force", "--json")
    check_keys("submit --json", [run(*call).json, run(*call, "--validation", DATA).json])


def test_train(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with narrow_nets():
        ran = run(
            *("train", DATA, "--net", "unet", "--recipe", "paper", "--size", "32x32", "--epochs", 1),
            *("--batch", 4, "--device", "cpu", "--out", folder, "--json"),
        )
    check_keys("train --json", [ran.json])
    check_keys("train: run.json", [json.loads((folder / "run.json").read_text())])
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    check_keys("train: log.jsonl", lines)
    check_keys("train: losses.json", [{"losses.json": json.loads((folder / "losses.json").read_text())}])
    assert {path.name for path in folder.iterdir()} == {
        *("run.json", "log.jsonl", "losses.json", "weights.safetensors", "last.pt", "tensorboard"),
        "split.json",
    }
    check_keys("train: split.json", [json.loads((folder / "split.json").read_text())])
    shutil.rmtree(folder)  # weights are large


@pytest.mark.slow
def test_reproduce(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with narrow_nets():
        ran = run(
            *("reproduce", DATA, "--out", out, "--nets", "unet", "--folds", 2, "--size", "32x32"),
            *("--epochs", 1, "--batch", 4, "--device", "cpu", "--json"),
        )
    check_keys("reproduce --json", [ran.json])
    assert ran.json == json.loads((out / "result.json").read_text())
    check_keys("reproduce: plan.json", [json.loads((out / "plan.json").read_text())])
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/result.json"))]
    assert len(runs) == 2
    check_keys("reproduce: runs/*/result.json", runs)
    shutil.rmtree(out)  # weights are large


@pytest.mark.slow
def test_export(tmp_path: Path) -> None:
    ran = run("export", "unet", "--precision", "fp32", "--size", "32x48", "--json")
    check_keys("export --json", [ran.json])
    (path,) = (tmp_path / "store").glob("*/manifest.json")
    check_keys("manifest.json", [json.loads(path.read_text())])


def rows_of(tmp_path: Path, *arguments: object) -> list[dict[str, Any]]:
    """The rows that a benchmark writes, of a few frames."""
    file = tmp_path / "rows.json"
    run("bench", *arguments, "--source", CLIP, "--quick", "--rounds", 1, "--json", file)
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    return rows


@pytest.mark.slow
def test_bench_streams(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "streams", "--engine", BRIGHT, "--streams", "1,2", "--seconds", 0.3)
    check_keys("bench streams --json", rows)


@pytest.mark.slow
def test_bench_pipeline(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "pipeline", "--engine", BRIGHT, "--fps", 20, "--seconds", 0.3)
    check_keys("bench pipeline --json", rows)


@pytest.mark.slow
def test_bench_nets(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        *("nets", "--net", "unet", "--backend", "openvino", "--precision", "fp32"),
        "--size",
        "32x32",
    )
    check_keys("bench nets --json", rows)
    for row in rows:
        assert "energy_j_per_frame" in row, "the key stays where energy is not measured"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["runtime", "pipeline"])
def test_bench_peers(tmp_path: Path, kind: str) -> None:
    rows = rows_of(tmp_path, "peers", "--kind", kind, "--size", "64x64")
    check_keys(f"bench peers --kind {kind} --json", rows)


@pytest.mark.parametrize("bench", ["nets", "pipeline", "streams"])
def test_committed_results_have_the_keys_of_new_ones(bench: str) -> None:
    """So that old and new results go into one report and one comparison."""
    rows = json.loads((RESULTS / f"2026-11-23-xeon-2-cores-bench-{bench}.json").read_text())
    check_keys(f"bench {bench} --json", rows)


@pytest.mark.parametrize("kind", ["runtime", "pipeline"])
def test_committed_results_of_peers_have_the_keys_of_new_ones(kind: str) -> None:
    rows = json.loads((RESULTS / "2026-11-23-xeon-2-cores-bench-peers.json").read_text())
    check_keys(f"bench peers --kind {kind} --json", [row for row in rows if row["kind"] == kind])


def test_bench_compare(tmp_path: Path) -> None:
    days = [RESULTS / f"2026-11-{day}-xeon-2-cores-bench-streams.json" for day in (22, 23)]
    ran = run("bench", "compare", *days, "--json", "-")
    check_keys("bench compare --json", [ran.json])


def test_dicom_send(tmp_path: Path) -> None:
    needs("pynetdicom")
    from tests.cli.test_replay_dicom import write_cine
    from tests.dicom_network.counterparts import archive
    from tests.dicom_network.test_sender import write_results

    paths = write_results(tmp_path)
    with archive(tmp_path / "archive") as peer:
        ran = run("dicom", "send", *paths, "--to", peer, "--json")
    with archive(tmp_path / "refuses", "--refuse") as peer:
        refused = run("dicom", "send", *paths, "--to", peer, "--json", expect=1)
    cine = write_cine(tmp_path / "cine.dcm", 2)
    with archive(tmp_path / "uncompressed", "+x=") as peer:
        not_stored = run("dicom", "send", cine, "--to", peer, "--json", expect=1)
    check_keys("dicom send --json", [ran.json, refused.json, not_stored.json])


def test_dicom_listen(tmp_path: Path) -> None:
    needs("pynetdicom")
    err = io.StringIO()

    def stop() -> None:
        wait_for(lambda: "listening" in err.getvalue(), "the listener")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    ran = run("dicom", "listen", "--port", 0, "--spool", tmp_path / "spool", "--json", expect=130, err=err)
    check_keys("dicom listen --json", [ran.json])
