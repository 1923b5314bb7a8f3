"""Training sees what inference sees; a cache on disk is made once, found again, and made anew if damaged."""

import hashlib
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from streamseg.core.errors import DataError, SinkError
from streamseg.core.types import InputSpec
from streamseg.datasets import find_near_duplicates, frame_hash, open_dataset
from streamseg.datasets.near_duplicates import HEIGHT, WIDTH, reduced
from streamseg.phantom import render_still
from streamseg.segmentation.preprocess import to_tensor
from streamseg.training import cache as cache_module
from streamseg.training.cache import ABANDONED_S, cache_samples, prepare_dataset
from streamseg.training.data import take
from tests.datasets.files import write_dataset
from tests.full_disk import small_files
from tests.training.runs import SPEC as NOISE_SPEC
from tests.training.runs import noise, sample

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)
COUNT = 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    samples = {}
    for number in range(COUNT):
        mask = np.zeros((40, 60), np.uint8)
        mask[5:20, number * 5 : number * 5 + 20] = 255 if number % 2 else 1
        samples[str(number)] = generator.integers(0, 256, (40, 60), dtype=np.uint8), mask
    return write_dataset(tmp_path / "data", samples)


def make(root, folder, spec=SPEC):
    """The cache of a data set, and how many images had to be decoded for it."""
    decoded = []
    cache = cache_samples(open_dataset(root), spec, folder=folder, advance=lambda: decoded.append(1))
    return cache, len(decoded)


def test_it_is_made_once_and_equals_the_one_in_memory(root, tmp_path):
    memory = cache_samples(open_dataset(root), SPEC)
    for expected in (COUNT, 0):
        cache, decoded = make(root, tmp_path / "kept")
        assert decoded == expected
        assert cache.fingerprint == memory.fingerprint
        assert torch.equal(cache.images, memory.images)
        assert torch.equal(cache.labels, memory.labels)
        assert torch.equal(cache.vessel_known, memory.vessel_known)
        assert cache.vessel_known.tolist() == [True, False, True, False, True]
        assert cache.names == memory.names
    (home,) = (tmp_path / "kept").iterdir()
    assert sorted(p.name for p in home.iterdir()) == ["cache.json", "images.npy", "labels.npy"]


def test_a_change_of_the_inputs_makes_a_new_cache(root, tmp_path):
    assert make(root, tmp_path / "kept")[1] == COUNT
    assert make(root, tmp_path / "kept", InputSpec(48, 48, 0.25, 0.25, 0.5))[1] == COUNT
    assert make(root, tmp_path / "kept", InputSpec(32, 48, 0.5, 0.5, 0.4))[1] == 0  # not the pixels
    os.utime(root / "masks/2.png", ns=(0, 1))
    assert make(root, tmp_path / "kept")[1] == COUNT
    (root / "images/0.png").unlink()
    (root / "masks/0.png").unlink()
    cache, decoded = make(root, tmp_path / "kept")
    assert (len(cache), decoded) == (COUNT - 1, COUNT - 1)
    assert len(list((tmp_path / "kept").iterdir())) == 4


def flip(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def rename_first(path):
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"names": ["x", *about["names"][1:]]}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.npy", flip),
        ("labels.npy", flip),
        ("images.npy", lambda p: p.write_bytes(p.read_bytes()[:-1])),
        ("labels.npy", lambda p: p.write_bytes(b"")),
        ("labels.npy", Path.unlink),
        ("cache.json", lambda p: p.write_text("{")),
        ("cache.json", lambda p: p.write_text("[]")),
        ("cache.json", lambda p: p.write_text("{}")),
        ("cache.json", rename_first),
        ("cache.json", Path.unlink),
    ],
)
def test_a_damaged_one_is_made_anew(root, tmp_path, name, damage):
    fingerprint = make(root, tmp_path / "kept")[0].fingerprint
    (home,) = (tmp_path / "kept").iterdir()
    damage(home / name)
    for expected in (COUNT, 0):
        cache, decoded = make(root, tmp_path / "kept")
        assert (cache.fingerprint, decoded) == (fingerprint, expected)
    assert list((tmp_path / "kept").iterdir()) == [home]


def test_writing_to_a_batch_does_not_change_the_files(root, tmp_path):
    cache, _ = make(root, tmp_path / "kept")
    take(cache, torch.tensor([0])).images.zero_()
    cache.images.zero_()
    assert make(root, tmp_path / "kept")[1] == 0


def worker(root, folder, answers):
    answers.put(cache_samples(open_dataset(root), SPEC, folder=folder).fingerprint)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # quick, and none of its threads are used
def test_processes_that_make_it_at_once_end_with_one(root, tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=worker, args=(root, tmp_path / "kept", answers)) for _ in range(3)]
    for process in workers:
        process.start()
    found = {answers.get(timeout=120) for _ in workers}
    for process in workers:
        process.join(60)
    assert [process.exitcode for process in workers] == [0, 0, 0]
    assert found == {cache_samples(open_dataset(root), SPEC).fingerprint}
    assert make(root, tmp_path / "kept")[1] == 0
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_bad_file_leaves_nothing_behind(root, tmp_path):
    (root / "images/3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3\.png"):
        make(root, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_remains_of_killed_processes_are_removed_after_a_day(root, tmp_path):
    old, new = (tmp_path / "kept" / name for name in ("a.partial", "b.partial"))
    old.mkdir(parents=True)
    new.mkdir()
    then = time.time() - ABANDONED_S - 60
    os.utime(old, (then, then))
    make(root, tmp_path / "kept")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_is_named(root, tmp_path):
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(SinkError, match=r"cannot cache prepared images in .*kept"):
        make(root, tmp_path / "kept")


def test_a_full_disk_is_an_error_and_leaves_nothing(root, tmp_path):
    with small_files(4096), pytest.raises(SinkError, match="free space or choose another folder"):
        make(root, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_large_one_goes_to_the_users_cache_folder(root, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "LARGE_BYTES", COUNT * 3 * 32 * 48 - 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert make(root, None)[1] == COUNT
    assert make(root, None)[1] == 0
    assert len(list((tmp_path / "user/streamseg/images").iterdir())) == 1
    monkeypatch.setattr(cache_module, "LARGE_BYTES", COUNT * 3 * 32 * 48)
    assert make(root, None)[1] == COUNT


def test_training_sees_exactly_what_inference_sees():
    cache = cache_samples([sample()], NOISE_SPEC)
    images = take(cache, torch.tensor([0])).images
    np.testing.assert_allclose(
        (images.numpy() - 0.25) / 0.25, to_tensor(sample().image, NOISE_SPEC), atol=1e-6
    )


def test_labels_are_letterboxed_with_the_image():
    cache = cache_samples([sample(), sample(known=False)], NOISE_SPEC)
    assert cache.labels.dtype == torch.uint8
    nerve, vessel = cache.labels[0]
    left = (64 - 50) // 2
    assert nerve.sum() == 20 * 20
    assert nerve[10:30, left + 15 : left + 35].all()
    assert not (nerve & vessel).any()
    assert vessel[:, :left].sum() == 0
    assert cache.vessel_known.tolist() == [True, False]
    assert not cache.labels[1, 1].any()


def test_different_contents_have_different_fingerprints():
    cache, again = noise(6), noise(6)
    assert again.fingerprint == cache.fingerprint
    assert len(cache.fingerprint) == 64
    changed = ([sample()], [sample(seed=1)], [sample(known=False)], [sample(name="b")], [sample()] * 2)
    assert len({cache_samples(samples, NOISE_SPEC).fingerprint for samples in changed}) == len(changed)


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no samples"):
        cache_samples([], NOISE_SPEC)


def write_stills(root: Path) -> Path:
    """Four phantom stills, of which two are the same."""
    stills = {seed: render_still(seed) for seed in (1, 2, 3)}
    shown = {str(number): stills[seed] for number, seed in enumerate((1, 2, 3, 2))}
    return write_dataset(root, {name: (s.image, s.nerve * np.uint8(255)) for name, s in shown.items()})


@pytest.mark.parametrize("kept", [False, True])
def test_near_duplicates_come_from_the_same_pass_over_the_files(tmp_path, kept):
    """Found whatever the net's size is, and as by the command that checks a data set."""
    data = open_dataset(write_stills(tmp_path / "data"))
    images, masks = zip(*(reduced(s.image, s.nerve) for s in data), strict=True)
    expected = find_near_duplicates(np.array(images), np.array(masks))
    assert expected.groups == ((1, 3),)
    decoded = []
    folder = tmp_path / "kept" if kept else None
    cache, found = prepare_dataset(data, SPEC, folder=folder, advance=lambda: decoded.append(1))
    assert found == expected
    assert cache.fingerprint == cache_samples(data, SPEC).fingerprint
    assert len(decoded) == 4


def test_only_what_is_missing_is_made(tmp_path):
    data, folder = open_dataset(write_stills(tmp_path / "data")), tmp_path / "kept"
    small = cache_samples(data, SPEC, folder=folder)
    (home,) = folder.iterdir()
    written = home.stat().st_mtime_ns
    decoded = []
    for expected in (4, 4):  # the other size, and then nothing more
        cache, found = prepare_dataset(data, SPEC, folder=folder, advance=lambda: decoded.append(1))
        assert cache.fingerprint == small.fingerprint
        assert found.groups == ((1, 3),)
        assert len(decoded) == expected
    assert home.stat().st_mtime_ns == written
    assert len(list(folder.iterdir())) == 2
    same_size = InputSpec(HEIGHT, WIDTH, 0.25, 0.25, 0.5)
    assert prepare_dataset(data, same_size, folder=folder, advance=lambda: decoded.append(1))[1] == found
    assert len(decoded) == 4


def test_the_names_and_files_on_disk_stay_as_they_are(tmp_path):
    """Otherwise caches of earlier versions would be made again, and never be removed."""
    (tmp_path / "kept").mkdir()
    data = open_dataset(write_stills(tmp_path / "data"))
    cache = cache_samples(data, SPEC, folder=tmp_path / "kept")
    (home,) = (tmp_path / "kept").iterdir()
    files = [path for entry in data.entries for path in (entry.image, entry.mask)]
    made_of = [2, 32, 48, *([str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in files)]
    assert home.name == hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    assert np.array_equal(np.load(home / "images.npy"), cache.images.numpy())
    assert np.array_equal(np.load(home / "labels.npy"), cache.labels.numpy())
    facts = json.loads((home / "cache.json").read_text())
    assert facts.pop("frames") == [frame_hash(sample.image) for sample in data]
    assert facts == {
        "names": ["0", "1", "2", "3"],
        "vessel_known": [False] * 4,
        "fingerprint": cache.fingerprint,
    }
    (home / "cache.json").write_text(json.dumps(facts))  # as earlier versions wrote it
    again = cache_samples(data, SPEC, folder=tmp_path / "kept")
    assert (again.fingerprint, again.frames) == (cache.fingerprint, ())
    assert prepare_dataset(data, SPEC, folder=tmp_path / "kept")[0].frames == cache.frames


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", '{"names": 3}', '{"names": [], "vessel_known": [1e999]}']
)
def test_a_hostile_description_of_a_cache_is_made_anew(tmp_path, text):
    data = open_dataset(write_stills(tmp_path / "data"))
    cache = cache_samples(data, SPEC, folder=tmp_path / "kept")
    (home,) = (tmp_path / "kept").iterdir()
    (home / "cache.json").write_text(text)
    assert cache_samples(data, SPEC, folder=tmp_path / "kept").fingerprint == cache.fingerprint
    facts = json.loads((home / "cache.json").read_text())
    facts["vessel_known"] = [10**400] * 4
    (home / "cache.json").write_text(json.dumps(facts))
    assert cache_samples(data, SPEC, folder=tmp_path / "kept").fingerprint == cache.fingerprint
    (home / "images.npy").unlink()
    os.mkfifo(home / "images.npy")
    assert cache_samples(data, SPEC, folder=tmp_path / "kept").fingerprint == cache.fingerprint


def test_a_large_set_is_cached_where_the_user_s_folder_cannot_be_written(tmp_path, monkeypatch):
    """A read-only HOME ended training on more than 256 MB of images."""
    monkeypatch.setattr(cache_module, "LARGE_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "home").write_text("no folder can be made below a file, not even by root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    data = open_dataset(write_stills(tmp_path / "data"))
    cache = cache_samples(data, SPEC)
    (home,) = (tmp_path / "tmp").glob("streamseg-*/images/*")
    assert (home / "cache.json").exists()
    monkeypatch.setattr(cache_module, "private_folder", lambda: tmp_path / "home")
    assert cache_samples(data, SPEC).fingerprint == cache.fingerprint  # in memory: there is no other place
