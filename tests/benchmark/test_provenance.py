import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.benchmark import provenance as module
from streamseg.benchmark.provenance import Bystanders, Ticks, last_level_cache, machine_name, provenance
from streamseg.core.hardware import Machine
from streamseg.core.types import InputSpec


def test_a_result_says_where_it_is_from() -> None:
    found = provenance(FakeBackend(InputSpec(32, 32, 0.0, 1.0, 0.5)), packages=("numpy", "no-such-package"))
    assert json.loads(json.dumps(found)) == found
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["machine"]["cores"] == os.cpu_count()
    assert "numpy" in found["machine"]
    assert "no-such-package" not in found["machine"]
    assert found["engine"]["name"] == "fake"
    assert provenance()["engine"] is None


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (Machine("Intel(R) Xeon(R) Processor", ()), f"xeon-{os.cpu_count()}-cores"),
        (Machine("ARMv8", ()), f"armv8-{os.cpu_count()}-cores"),
        (Machine("", ()), f"machine-{os.cpu_count()}-cores"),
        (Machine("AMD EPYC 9474F", (), gpu="NVIDIA H200", compute_capability="9.0"), "nvidia-h200"),
    ],
)
def test_the_machine_in_a_files_name(machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "this_machine", lambda: machine)
    assert machine_name() == name
    assert machine_name(gpu=False).endswith("-cores")


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert module.commit() == ""


def test_a_changed_source_makes_a_commit_dirty_and_a_new_result_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    result, source = tmp_path / "benchmarks/results/one.json", tmp_path / "code.py"
    result.parent.mkdir(parents=True)
    for path in (result, source):
        path.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "One")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    clean = module.commit()
    assert clean
    assert not clean.endswith("-dirty")
    result.write_text("2")
    assert module.commit() == clean
    source.write_text("2")
    assert module.commit() == f"{clean}-dirty"


def test_the_cache_is_known_or_zero() -> None:
    assert last_level_cache() >= 0


def test_the_largest_cache_counts_in_any_unit(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "1G", "2M", "", "unknown")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache(tmp_path) == 2**30
    assert last_level_cache(tmp_path / "none") == 0


@pytest.mark.skipif(Ticks.now() is None, reason="needs /proc/stat")
def test_work_of_others_shows_and_own_work_does_not() -> None:
    spin = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as other:
        time.sleep(0.3)
        with Bystanders() as busy:
            time.sleep(0.5)
        other.kill()
    assert busy.share is not None
    assert busy.share > 0.3 / (os.cpu_count() or 1)


@pytest.mark.skipif(Ticks.now() is None, reason="needs /proc/stat")
def test_own_work_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([Ticks(100.0, 50.0, 10.0), Ticks(110.0, 58.0, 17.0)])
    monkeypatch.setattr(module.Ticks, "now", lambda: next(ticks))
    with Bystanders() as found:
        pass
    assert found.share == pytest.approx(0.1)
