"""One clip: which faults are its own, which end the worker, and which end the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.optional import needs

needs("pyarrow")

from streamseg.archive.clips import Clip, Shard  # noqa: E402
from streamseg.archive.folder import ArchiveFolder  # noqa: E402
from streamseg.archive.records import read_about  # noqa: E402
from streamseg.archive.segment import Job, content_hash, segment_clip  # noqa: E402
from streamseg.backends import FakeBackend  # noqa: E402
from streamseg.core.errors import EngineError  # noqa: E402
from streamseg.core.types import Backend  # noqa: E402
from tests.fakes import SPEC  # noqa: E402

CLIP = Clip.of("phantom:?frames=10&size=96x64")


def load(threads: int) -> Backend:
    return FakeBackend(SPEC)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(tmp_path / "out", {"name": "fake", "sha256": "0"}, load)
    with ArchiveFolder(made.out).opened(made.describe(), Shard()):
        return made


def test_a_clip_is_published_with_signs_of_life(job: Job) -> None:
    beats: list[int] = []
    outcome = segment_clip(job, CLIP, load(1), beats.append)
    assert (outcome.frames, outcome.failed, outcome.fatal) == (10, None, None)
    about = read_about(ArchiveFolder(job.out).result(CLIP))
    assert (about["frames"], sum(about["states"].values()), about["structures"]) == (10, 10, ["nerve"])
    assert beats


def test_an_engine_that_fails_is_no_fault_of_the_clip(job: Job) -> None:
    with pytest.raises(EngineError, match="fail"):
        segment_clip(job, CLIP, FakeBackend(SPEC, fail_at=0), lambda frames: None)
    assert ArchiveFolder(job.out).failures() == set()


def test_results_that_cannot_be_written_are_no_fault_of_the_clip(job: Job) -> None:
    clips = ArchiveFolder(job.out).clips
    clips.rmdir()
    clips.write_bytes(b"")
    outcome = segment_clip(job, CLIP, load(1), lambda frames: None)
    assert outcome.fatal is not None
    assert "cannot write" in outcome.fatal
    assert not list(ArchiveFolder(job.out).failed.iterdir())


def test_a_worker_with_another_engine_does_not_start(job: Job) -> None:
    with pytest.raises(EngineError, match="share"):
        job.load_engine(1)


def test_hashes_of_files_folders_and_addresses(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "1.png"
    file.write_bytes(b"x" * 3_000_000)
    blocks: list[int] = []
    assert content_hash(str(file), lambda: blocks.append(1)) == (
        hashlib.sha256(b"x" * 3_000_000).hexdigest(),
        3_000_000,
    )
    assert len(blocks) == 3
    before = content_hash(str(tmp_path))
    assert before[1] == 3_000_000
    file.rename(file.with_name("2.png"))
    assert content_hash(str(tmp_path))[0] != before[0]
    assert content_hash("phantom:")[1] is None
