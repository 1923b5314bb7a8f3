"""``streamseg dicom send`` and ``listen`` with DCMTK's programs on the other side."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from tests.optional import needs

needs("pynetdicom")

from streamseg.cli import dicom_listen, main  # noqa: E402
from streamseg.cli.replay_clip import ClipReport  # noqa: E402
from streamseg.core.errors import EngineError, SinkError  # noqa: E402
from streamseg.dicom_network.spool import Spool  # noqa: E402
from tests.cli.conftest import HEIGHT, WIDTH  # noqa: E402
from tests.cli.test_replay_dicom import write_cine  # noqa: E402
from tests.dicom_network.certificates import Authority  # noqa: E402
from tests.dicom_network.counterparts import archive, dcmtk, free_port, scan  # noqa: E402
from tests.dicom_network.test_sender import write_results  # noqa: E402
from tests.waiting import wait_for  # noqa: E402

UID = "1.2.3.12"


def listen(
    capsys: pytest.CaptureFixture[str], meanwhile: Callable[[int], object], *arguments: object
) -> tuple[int, dict[str, Any], str]:
    """Run the listener while a thread does something with its port, then press Ctrl-C."""
    dcmtk("storescu")
    port, failed = free_port(), []

    def act() -> None:
        try:
            meanwhile(port)
        except BaseException as error:
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    code = main(["dicom", "listen", "--port", str(port), *map(str, arguments), "--json"])
    thread.join()
    if failed:
        raise failed[0]
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def whole_frame() -> Dataset:
    """An ultrasound region of all pixels: nothing has to be searched."""
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionFlags = region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = WIDTH - 1, HEIGHT - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
    return region


def scanned(port: int, *files: Path) -> None:
    """Send as soon as the listener answers."""
    wait_for(lambda: scan(port, *files)[0] == 0, "the listener")


def test_results_are_sent_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_results(tmp_path)
    with archive(tmp_path / "archive") as peer:
        assert main(["dicom", "send", *map(str, paths), "--to", str(peer), "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["stored"], answer["error"]) == (2, None)
    assert [row["path"] for row in answer["files"]] == list(map(str, paths))
    assert err.count(f"stored by {peer}") == 2
    assert "Müller" not in out + err


def test_both_directions_speak_tls(tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority.make(tmp_path / "ca")
    ours, theirs = authority.sign("ours"), authority.sign("theirs")
    dcmtk_options = ["+tls", str(theirs.key), str(theirs.cert), "+cf", str(authority.cert)]
    files = ("--tls-cert", ours.cert, "--tls-key", ours.key, "--tls-ca", ours.authority)
    cine, stored = write_cine(tmp_path / "cine.dcm", 5), tmp_path / "archive"
    with archive(stored, *dcmtk_options) as peer:

        def meanwhile(port: int) -> None:
            wait_for(lambda: scan(port, *dcmtk_options, cine)[0] == 0, "the listener")
            wait_for(lambda: len(list(stored.iterdir())) == 2, "the results")
            wait_for(lambda: not list((tmp_path / "spool" / "results").iterdir()), "their removal")

        then = ("--then", "replay", "--engine", engine, "--send-to", peer)
        _, answer, err = listen(
            capsys, meanwhile, "--spool", tmp_path / "spool", *then, "--tls", "--send-tls", *files
        )
        assert (answer["received"], answer["sent"]) == (1, 1)
        assert "as STREAMSEG, with TLS" in err
        call = ["dicom", "send", str(cine), "--to", str(peer), "--tls", *map(str, files)]
        assert main(call) == 0
        assert main(call[:6]) == 1
    assert "--tls-ca" in capsys.readouterr().err


def test_a_folder_is_sent_whole_and_a_refusal_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    write_results(folder)
    write_cine(folder / "cine.dcm", 2)
    (folder / "notes.txt").write_text("not to be sent")
    with archive(tmp_path / "archive", "+x=") as peer:
        assert main(["dicom", "send", str(folder), "--to", str(peer)]) == 1
    err = capsys.readouterr().err
    assert "does not accept Ultrasound" in err
    assert "error: 1 of 3 files are not stored, see above" in err
    assert len(list((tmp_path / "archive").iterdir())) == 2


def test_a_cine_is_received_segmented_and_sent_back(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cine = write_cine(tmp_path / "cine.dcm", SequenceOfUltrasoundRegions=[whole_frame()])
    stored = tmp_path / "archive"
    with archive(stored) as peer:

        def meanwhile(port: int) -> None:
            scanned(port, cine)
            wait_for(lambda: len(list(stored.iterdir())) == 2, "the results")
            wait_for(lambda: not list((tmp_path / "spool" / "results").iterdir()), "their removal")

        code, answer, err = listen(
            capsys,
            meanwhile,
            *("--spool", tmp_path / "spool", "--then", "replay", "--send-to", peer, "--engine", engine),
        )
    assert code == 130
    assert answer == {"received": 1, "segmented": 1, "failed": 0, "sent": 1, "waiting": 0, "unsent": 0}
    results = {dcmread(path).Modality: dcmread(path) for path in stored.iterdir()}
    assert set(results) == {"SEG", "SR"}
    assert results["SEG"].NumberOfFrames == 16
    assert (
        results["SEG"].ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        == UID
    )
    assert [path for path in (tmp_path / "spool").rglob("*") if path.suffix == ".dcm"] == []
    assert "Doe" not in err
    assert "SECRET" not in err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves its socket
def test_results_wait_for_an_archive_that_is_away_and_a_start_sends_them(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool, stored = tmp_path / "spool", tmp_path / "archive"
    away = f"PACS@127.0.0.1:{free_port()}"
    common = ("--spool", spool, "--then", "replay", "--engine", engine, "--send-to")

    def first(port: int) -> None:
        scanned(port, write_cine(tmp_path / "cine.dcm"))
        wait_for(lambda: len(list((spool / "results").rglob("*.dcm"))) == 2, "the results")

    _, answer, _ = listen(capsys, first, *common, away)
    assert (answer["segmented"], answer["sent"], answer["unsent"]) == (1, 0, 1)
    with archive(stored) as peer:

        def second(port: int) -> None:
            wait_for(lambda: len(list(stored.iterdir())) == 2, "the results")
            wait_for(lambda: not list((spool / "results").iterdir()), "their removal")

        _, answer, _ = listen(capsys, second, *common, peer)
    assert (answer["received"], answer["sent"], answer["unsent"]) == (0, 1, 0)


def test_a_cine_that_cannot_be_segmented_is_set_aside_and_the_next_one_is_done(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool"
    bad = write_cine(tmp_path / "bad.dcm", 5, damaged=[2], SOPInstanceUID="1.2.3.13")
    good = write_cine(tmp_path / "good.dcm", 5)

    def meanwhile(port: int) -> None:
        scanned(port, bad, good)
        wait_for(lambda: len(list((spool / "results").rglob("*.dcm"))) == 2, "the results")
        wait_for(lambda: not list((spool / "received").iterdir()), "the end")

    _, answer, err = listen(capsys, meanwhile, "--spool", spool, "--then", "replay", "--engine", engine)
    assert (answer["received"], answer["segmented"], answer["failed"]) == (2, 1, 1)
    assert [path.name for path in (spool / "failed").iterdir()] == ["1.2.3.13.dcm"]
    assert "damaged frame" in err
    assert [path.name for path in (spool / "results").iterdir()] == [UID]


@pytest.mark.parametrize("tries", [1, 5])
def test_a_full_disk_delays_a_cine_and_only_lasting_failure_sets_it_aside(
    tmp_path: Path,
    engine: Path,
    tries: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dicom_listen, "RETRY_S", 0.05)
    spool, finish = tmp_path / "spool", Spool.finish
    left = [tries]

    def full(self: Spool, uid: str) -> list[Path]:
        if left[0] > 0:
            left[0] -= 1
            raise SinkError("No space left on device")
        return finish(self, uid)

    monkeypatch.setattr(Spool, "finish", full)
    aside, results = spool / "failed" / f"{UID}.dcm", spool / "results" / UID

    def meanwhile(port: int) -> None:
        scanned(port, write_cine(tmp_path / "cine.dcm", 3))
        wait_for(lambda: aside.exists() or (results.exists() and not spool_holds(spool)), "the end")

    _, answer, err = listen(capsys, meanwhile, "--spool", spool, "--then", "replay", "--engine", engine)
    assert (answer["segmented"], answer["failed"]) == ((1, 0) if tries == 1 else (0, 1))
    assert "No space left on device; tried again" in err
    assert results.exists() != aside.exists()


def spool_holds(spool: Path) -> bool:
    return any((spool / "received").iterdir())


def test_an_engine_that_fails_ends_the_listener_and_keeps_the_cine(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(uri: str, *arguments: Any, **more: Any) -> ClipReport:
        return ClipReport(uri, error=EngineError("the GPU is gone; restart"))

    monkeypatch.setattr(dicom_listen, "run_clip", failing)
    spool = tmp_path / "spool"
    waiting = Spool(spool)
    waiting.publish(write_cine(tmp_path / "cine.dcm", 2), UID)
    waiting.close()
    arguments = ["--port", "0", "--spool", str(spool), "--then", "replay", "--engine", str(engine)]
    assert main(["dicom", "listen", *arguments]) == 1
    assert "error: the GPU is gone" in capsys.readouterr().err
    assert (spool / "received" / f"{UID}.dcm").exists()


def test_ctrl_c_in_the_middle_of_a_cine_leaves_it_for_the_next_start(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, run_clip = tmp_path / "spool", dicom_listen.run_clip

    def interrupted(uri: str, outputs: Any, backend: Any, options: Any, stop: Any, **more: Any) -> Any:
        ran = run_clip(uri, outputs, backend, options, stop, **more)
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: bool(stop), "the signal")
        return ran

    monkeypatch.setattr(dicom_listen, "run_clip", interrupted)
    waiting = Spool(spool)
    cine = write_cine(tmp_path / "cine.dcm")
    waiting.publish(cine, UID)
    waiting.close()
    code = main(
        ["dicom", "listen", "--port", "0", "--spool", str(spool), "--then", "replay", "--engine", str(engine)]
    )
    assert code == 130
    assert "1 cines and the results of 0 wait" in capsys.readouterr().err
    assert [path.name for path in spool.rglob("*.dcm")] == [f"{UID}.dcm"]


def test_without_then_cines_are_only_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = tmp_path / "spool"
    code, answer, err = listen(
        capsys, lambda port: scanned(port, write_cine(tmp_path / "cine.dcm", 2)), "--spool", spool
    )
    assert (code, answer["waiting"]) == (130, 1)
    assert [path.name for path in (spool / "received").iterdir()] == [f"{UID}.dcm"]
    assert re.search(r"listening on 127\.0\.0\.1 port \d+ as STREAMSEG", err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["send", "nothing.dcm", "--to", "PACS@127.0.0.1:1"], "no such file"),
        (["send", "empty", "--to", "PACS@127.0.0.1:1"], "no DICOM files in empty"),
        (["send", "nothing.dcm", "--to", "PACS"], "AET@HOST:PORT"),
        (["send", "nothing.dcm", "--to", "PACS@127.0.0.1:1", "--aet", "x" * 17], "AE title"),
        (["listen", "--port", "0", "--spool", "open"], "chmod 700"),
        (["listen", "--port", "0", "--spool", "new", "--then", "train"], "--then train is unknown"),
        (["listen", "--port", "0", "--spool", "new", "--send-to", "PACS@127.0.0.1:1"], "--then replay"),
        (["listen", "--port", "0", "--spool", "new", "--bind", "0.0.0.0"], "--allow SCANNER"),
        (["listen", "--port", "0", "--spool", "new", "--bind", "everywhere"], "is not an address"),
        (["send", "nothing.dcm", "--to", "PACS@127.0.0.1:1", "--tls-ca", "ca.pem"], "belong to --tls"),
        (["listen", "--port", "0", "--spool", "new", "--tls"], "give --tls-cert, --tls-key and --tls-ca"),
        (["listen", "--port", "0", "--spool", "new", "--send-tls"], "belong to --send-to"),
        (
            [
                *("listen", "--port", "0", "--spool", "new", "--tls", "--tls-ca", "none.pem"),
                *("--tls-cert", "a.pem", "--tls-key", "b.pem"),
            ],
            "no such file: --tls-ca none.pem",
        ),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("open").mkdir(mode=0o755)
    assert main(["dicom", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("new").exists()


def test_it_names_the_extra_if_the_library_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["dicom", "send", "a.dcm", "--to", "PACS@127.0.0.1:1"]) == 2
    assert "streamseg[dicom-network]" in capsys.readouterr().err
