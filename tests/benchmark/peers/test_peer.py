"""Making peers ready: what fails or hangs is named, and does not hold up the others."""

import sys
import threading
import warnings

import numpy
import pytest

from streamseg.benchmark.peers.peer import Peer, need, prepare, version
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.errors import MissingExtra
from tests.benchmark.fakes import Clock, peer


def good(name: str = "good") -> Peer:
    return peer(name, name, "fp32", lambda: 1)


def quiet(_: str) -> None:
    pass


def test_one_that_fails_is_absent_with_its_reason_in_one_line() -> None:
    def broken() -> Peer:
        raise RuntimeError("it broke\n  in two lines")

    def silent() -> Peer:
        raise KeyError

    absent: dict[str, str] = {}
    said: list[str] = []
    found = prepare("net", {"bad": broken, "worse": silent, "good": good}, absent, said.append)
    assert [one.name for one in found] == ["good"]
    assert absent == {"net bad": "it broke in two lines", "net worse": "KeyError"}
    assert "bad is left out: it broke in two lines" in said


def test_one_that_hangs_is_absent() -> None:
    release = threading.Event()

    def hangs() -> Peer:
        release.wait(60)
        return good("late")

    absent: dict[str, str] = {}
    found = prepare("runtime", {"late": hangs, "good": good}, absent, quiet, limit_s=0.3)
    release.set()
    assert [one.name for one in found] == ["good"]
    assert "no answer within 0.3 s" in absent["runtime late"]


def test_none_is_made_once_the_time_is_up() -> None:
    clock, absent = Clock(), dict[str, str]()
    limit = TimeLimit(10, clock_ns=clock)

    def slow() -> Peer:
        clock.work(12_000)()
        return good("slow")

    found = prepare("runtime", {"slow": slow, "late": good}, absent, quiet, limit=limit)
    assert [one.name for one in found] == ["slow"]
    assert absent == {"runtime late": TOO_LATE}


def test_one_that_is_not_ready_when_the_time_is_up_is_late() -> None:
    release, absent = threading.Event(), dict[str, str]()

    def hangs() -> Peer:
        release.wait(60)
        return good("late")

    assert prepare("runtime", {"late": hangs}, absent, quiet, limit=TimeLimit(0.2)) == []
    release.set()
    assert absent == {"runtime late": TOO_LATE}


def test_output_of_libraries_stays_out_of_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty() -> Peer:
        print("progress 100 %")
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return good()

    assert prepare("net", {"good": chatty}, {}, quiet)
    assert capsys.readouterr().out == ""


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(MissingExtra, match=r"pip install 'streamseg\[bench\]'"):
        need("the peer", "monai")
    absent: dict[str, str] = {}
    prepare("net", {"MONAI": lambda: need("the peer", "monai")}, absent, quiet)
    assert "streamseg[bench]" in absent["net MONAI"]


def test_a_version_is_given_if_there_is_one() -> None:
    assert version("numpy") == f"numpy {numpy.__version__}"
    assert version("no-such-package") == "no-such-package"
