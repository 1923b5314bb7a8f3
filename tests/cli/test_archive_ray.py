"""``streamseg archive --runner ray`` on a cluster of two nodes, both on this machine and started here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.optional import needs

needs("pyarrow", "ray")

import pyarrow.parquet as pq  # noqa: E402

from streamseg.archive.ray_cluster import RayCrew  # noqa: E402
from streamseg.archive.segment import Job  # noqa: E402
from streamseg.core.errors import UsageError  # noqa: E402
from tests.cli.conftest import ClipWriter  # noqa: E402
from tests.dicom_network.counterparts import free_port  # noqa: E402
from tests.waiting import wait_for  # noqa: E402

ROOT = Path(__file__).parents[2]
START_S = 300.0
"""Ray starts a dozen processes; on two busy cores that took a minute."""


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has started: it leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Cluster:
    """A head and further nodes, each with two processors and a session of processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = {
            **ours,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_raylet_start_wait_time_s": str(int(START_S)),
            "STREAMSEG_THREADS": "1",
        }
        self.nodes: list[subprocess.Popen[str]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a node and wait until it says that it runs."""
        number = len(self.nodes)
        log = self.folder / f"{number}.log"
        call = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--num-cpus", "2", "--block"]
        call += ["--object-store-memory", "80000000", "--temp-dir", str(self.folder / str(number))]
        call += ["--min-worker-port", "0", "--max-worker-port", "0"]
        with log.open("w") as file:
            node = subprocess.Popen(
                call, env=self.environment, stdout=file, stderr=file, text=True, start_new_session=True
            )
        self.nodes.append(node)

        def runs() -> bool:
            assert node.poll() is None, log.read_text()
            return "block forever" in log.read_text()

        wait_for(runs, "a node", START_S)
        return node

    def archive(self, *arguments: object) -> subprocess.Popen[str]:
        """Start ``streamseg archive --runner ray``."""
        call = [sys.executable, "-m", "streamseg", "archive", "--runner", "ray", *map(str, arguments)]
        return subprocess.Popen(
            call,
            env={**self.environment, "RAY_ADDRESS": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ss-ray-"))  # a socket's path has at most 107 characters
    found = Cluster(folder)
    try:
        yield found
    finally:
        for node in found.nodes:
            end(node)
        shutil.rmtree(folder, ignore_errors=True)


def more_than(folder: Path, count: int) -> Callable[[], bool]:
    return lambda: len(list(folder.glob("*.parquet"))) > count


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_and_a_node_that_dies_leave_neither_doubles_nor_gaps(
    cluster: Cluster, engine: Path, write_clip: ClipWriter, tmp_path: Path
) -> None:
    cluster.start("--head", "--port", str(cluster.port), "--include-dashboard=false", "--disable-usage-stats")
    second = cluster.start("--address", cluster.address, "--node-ip-address", "127.0.0.2")
    for number in range(24):
        write_clip(tmp_path / "in" / f"{number}.mp4", 40)
    clips = tmp_path / "out" / "clips"
    arguments = (tmp_path / "in", "--out", tmp_path / "out", "--engine", engine, "--workers", 4, "--json")
    driver = cluster.archive(*arguments)
    try:
        wait_for(more_than(clips, 0), "a clip", START_S)
    finally:
        end(driver)
        driver.communicate()
    driver = cluster.archive(*arguments)
    try:
        wait_for(more_than(clips, len(list(clips.glob("*.parquet")))), "a clip", START_S)
        end(second)
        out, err = driver.communicate(timeout=START_S)
    finally:
        end(driver)
    assert driver.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert (found["clips"], found["frames"], found["failed"]) == (24, 960, 0)
    rows = pq.read_table(clips, columns=["source", "frame"]).to_pylist()
    assert len({(row["source"], row["frame"]) for row in rows}) == len(rows) == 960


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_that_hangs_is_ended_and_its_clip_failed_after_three(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As on one machine (tests/archive/test_hanging.py); this worker cannot answer how far it is, either."""
    cluster.start("--head", "--port", str(cluster.port), "--include-dashboard=false", "--disable-usage-stats")
    call = f"from tests.archive.hanging import archive_over_ray; archive_over_ray({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=ROOT,
        env={**cluster.environment, "RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    published, failed, frames, said = json.loads(done.stdout.splitlines()[-1])
    assert (published, failed, frames) == (2, 1, 20)
    assert len(said) == 3
    assert "3 workers ended in it; the last: its work did not go on" in said[-1]


def test_a_cluster_without_token_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UsageError, match=r"set RAY_AUTH_MODE=token on all machines"):
        RayCrew(Job(tmp_path, {}, lambda threads: pytest.fail("no engine is loaded")))
