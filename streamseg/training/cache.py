"""Labelled images at the net's input size: decoded and letterboxed once, held in memory or cached on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamseg.core.errors import DataError, SinkError
from streamseg.core.files import can_write, parse_json, private_folder, read_file, user_folder
from streamseg.core.geometry import Letterbox
from streamseg.core.types import InputSpec, Mask
from streamseg.datasets.near_duplicates import HEIGHT, WIDTH, NearDuplicates, find_near_duplicates
from streamseg.datasets.reader import Dataset, Sample, frame_hash
from streamseg.segmentation.preprocess import letterbox_for

FORMAT = 2
"""Part of every cache's name: to be raised when decoding, letterboxing or the files change."""
LARGE_BYTES = 256 * 2**20
"""A larger cache of a data set is memory-mapped, even if no folder was given."""
ABANDONED_S = 24 * 3600
"""An unfinished cache of this age was left by a process that was killed."""
REDUCED = InputSpec(HEIGHT, WIDTH, mean=0.0, std=1.0, threshold=0.5)
"""The size in which images are compared, whatever a net's input is."""

Planes = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width of a net's input."""


@dataclass(frozen=True)
class Cache:
    """Letterboxed images and labels, uint8. Nothing may write to the tensors: they may lie on disk."""

    images: Tensor
    """uint8 (N, 1, H, W), 0..255."""
    labels: Tensor
    """uint8 (N, 2, H, W) of 0/1: nerve, vessel."""
    vessel_known: Tensor
    """bool (N,): whether vessels are labelled."""
    names: tuple[str, ...]
    """Names of the N samples."""
    frames: tuple[str, ...] = ()
    """:func:`~streamseg.datasets.frame_hash` of the N images as they were read; caches of earlier versions
    have none."""

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels (both uint8) and vessel_known of some rows (int64 (N,)), copied. Reads no others."""
        images, labels = (
            torch.from_numpy(planes.numpy()[rows.numpy()]) for planes in (self.images, self.labels)
        )
        return images, labels, self.vessel_known[rows]

    @cached_property
    def fingerprint(self) -> str:
        """sha256, 64 hex digits, of names, images and labels: the same wherever they were read."""
        digest = hashlib.sha256(
            json.dumps([self.names, self.vessel_known.tolist(), *self.images.shape]).encode()
        )
        for planes in (self.images, self.labels):
            digest.update(planes.numpy().data)
        return digest.hexdigest()


def cache_samples(
    samples: Iterable[Sample],
    spec: InputSpec,
    *,
    folder: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Cache:
    """Letterbox samples to the spec's size, exactly as :mod:`streamseg.segmentation.preprocess` does.

    A :class:`Dataset` is cached in a folder and memory-mapped if ``folder`` is given or the cache exceeds
    LARGE_BYTES (then below the user's cache folder or, if that cannot be written, a temporary one): the next
    call finds it there, unless a file's name, size or time, or the input size, has changed. A damaged one is
    made anew. Other samples are held in memory. ``advance`` is called once per decoded sample. Processes that
    make the same cache at once end with one good cache.

    Raises DataError (no samples, or a bad one) and SinkError (the folder cannot be written).
    """
    (cache,) = _make_caches(samples, [spec], folder, advance)
    return cache


def prepare_dataset(
    data: Dataset,
    spec: InputSpec,
    *,
    folder: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Cache, NearDuplicates]:
    """The cache of a data set, and its near-identical images, from one pass over the files.

    Parameters and errors are those of :func:`cache_samples`; each of the two sizes has a cache of its own.
    """
    cache, reduced = _make_caches(data, [spec, REDUCED], folder, advance)
    if not cache.frames:
        cache = replace(cache, frames=tuple(frame_hash(sample.image) for sample in data))
    return cache, find_near_duplicates(reduced.images[:, 0].numpy(), reduced.labels[:, 0].numpy())


def _make_caches(
    samples: Iterable[Sample], specs: Sequence[InputSpec], folder: Path | None, advance: Callable[[], None]
) -> list[Cache]:
    """A cache for each spec's size; the samples are read once, or not at all if every cache is found."""
    spec_of = {(spec.height, spec.width): spec for spec in specs}
    caches: dict[Size, Cache] = {}
    writers: dict[Size, _MemoryWriter | _DiskWriter] = {}
    with ExitStack() as stack:
        for size in spec_of:
            home = _home(samples, size, folder)
            found = None if home is None else _read(home)
            if found is not None:
                caches[size] = found
            elif home is not None and isinstance(samples, Dataset):
                writers[size] = stack.enter_context(_writing(home, len(samples), size))
            else:
                writers[size] = _MemoryWriter()
        if writers:
            for sample in samples:
                for size, writer in writers.items():
                    writer.add(_letterboxed(sample, spec_of[size]))
                advance()
        caches |= {size: writer.finish() for size, writer in writers.items()}
    return [caches[spec.height, spec.width] for spec in specs]


class _Prepared(NamedTuple):
    """One sample at a net's input size."""

    name: str
    frame: str
    """Hash of the image as it was read."""
    image: Planes
    """(H, W)."""
    labels: Planes
    """(2, H, W) of 0/1: nerve, vessel."""
    vessel_known: bool


def _letterboxed(sample: Sample, spec: InputSpec) -> _Prepared:
    box = letterbox_for(sample.image, spec)
    vessel = np.zeros_like(sample.nerve) if sample.vessel is None else sample.vessel
    labels = np.stack([_reduce_mask(box, mask) for mask in (sample.nerve, vessel)])
    return _Prepared(
        sample.name, frame_hash(sample.image), box.apply(sample.image), labels, sample.vessel is not None
    )


def _reduce_mask(box: Letterbox, mask: Mask) -> Planes:
    """A mask in tensor pixels: those that are mask for at least half their area."""
    return (box.apply(mask.astype(np.uint8) * 255) >= 128).astype(np.uint8)


class _MemoryWriter:
    """Collects a cache in memory."""

    def __init__(self) -> None:
        self._samples: list[_Prepared] = []

    def add(self, sample: _Prepared) -> None:
        self._samples.append(sample)

    def finish(self) -> Cache:
        """Raises DataError if there were no samples."""
        if not self._samples:
            raise DataError("there are no samples to prepare; the data set or the part of it is empty")
        names, frames, images, labels, known = zip(*self._samples, strict=True)
        return Cache(
            torch.from_numpy(np.stack(images))[:, None],
            torch.from_numpy(np.stack(labels)),
            torch.tensor(known),
            names,
            frames,
        )


class _DiskWriter:
    """Writes ``images.npy``, ``labels.npy`` and ``cache.json`` to a temporary folder, then renames it.

    By ordinary writes: on a full disk they raise, whereas a memory map would kill the process.
    """

    def __init__(self, home: Path, partial: Path, images: IO[bytes], labels: IO[bytes]) -> None:
        self._home, self._partial = home, partial
        self._images, self._labels = images, labels
        self._names: list[str] = []
        self._frames: list[str] = []
        self._known: list[bool] = []

    def add(self, sample: _Prepared) -> None:
        """Raises SinkError."""
        with _disk_errors(self._home.parent):
            self._images.write(sample.image.tobytes())
            self._labels.write(sample.labels.tobytes())
        self._names.append(sample.name)
        self._frames.append(sample.frame)
        self._known.append(sample.vessel_known)

    def finish(self) -> Cache:
        """Raises SinkError."""
        with _disk_errors(self._home.parent):
            self._images.close()
            self._labels.close()
            cache = _open(self._partial, self._names, self._frames, self._known)
            facts = {
                "names": self._names,
                "frames": self._frames,
                "vessel_known": self._known,
                "fingerprint": cache.fingerprint,
            }
            (self._partial / "cache.json").write_text(json.dumps(facts), encoding="utf-8")
            _publish(self._partial, self._home)  # the cache's memory maps survive renaming and removal
        return cache


@contextmanager
def _writing(home: Path, count: int, size: Size) -> Iterator[_DiskWriter]:
    """A writer of the cache ``home`` of ``count`` samples. Raises SinkError."""
    folder = home.parent
    with ExitStack() as stack:
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            partial = Path(tempfile.mkdtemp(prefix=f"{home.name}.", suffix=".partial", dir=folder))
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            files = []
            for name, planes in (("images.npy", 1), ("labels.npy", 2)):
                file = (partial / name).open("wb")
                stack.callback(_close, file)
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, planes, *size)}
                np.lib.format.write_array_header_1_0(file, header)
                files.append(file)
        yield _DiskWriter(home, partial, *files)


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # a full disk raises once more for what is still buffered
        file.close()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"cannot cache prepared images in {folder}: {error.strerror or error}; "
            "free space or choose another folder"
        ) from error


def _home(samples: Iterable[Sample], size: Size, folder: Path | None) -> Path | None:
    """Where a data set's cache lies, or None if it is held in memory. Raises DataError for a missing file."""
    if not isinstance(samples, Dataset) or not samples:
        return None
    if folder is None and len(samples) * 3 * size[0] * size[1] <= LARGE_BYTES:
        return None
    folder = folder or _default_folder()
    return None if folder is None else folder / _key(samples, size)


def _default_folder() -> Path | None:
    """The user's cache or, if it is missing or read-only, a private temporary folder; None for neither."""
    user = user_folder("cache")
    if user is not None and can_write(user / "images"):
        return user / "images"
    try:
        temporary = private_folder() / "images"
    except OSError:
        return None
    return temporary if can_write(temporary) else None


def _key(data: Dataset, size: Size) -> str:
    """sha256 of what a cache is made of. Raises DataError for a missing file."""
    made_of: list[object] = [FORMAT, *size]
    for entry in data.entries:
        for path in (entry.image, entry.mask):
            try:
                state = path.stat()
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror}; restore or remove it") from error
            made_of.append((str(path.resolve()), state.st_size, state.st_mtime_ns))
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _read(home: Path) -> Cache | None:
    """The cache in a folder, or None if there is none or it is not what was written."""
    try:
        facts = parse_json(read_file(home / "cache.json"))
        if not all((home / name).is_file() for name in ("images.npy", "labels.npy")):
            return None  # reading a pipe could block for ever
        cache = _open(home, facts["names"], facts.get("frames", ()), facts["vessel_known"])
        return cache if cache.fingerprint == facts["fingerprint"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, RuntimeError):
        return None


def _open(folder: Path, names: Sequence[str], frames: Sequence[str], known: Sequence[bool]) -> Cache:
    # mode "c" because torch wants memory that it may write to; what is written stays in this process
    images, labels = (
        torch.from_numpy(np.load(folder / name, mmap_mode="c", allow_pickle=False))
        for name in ("images.npy", "labels.npy")
    )
    return Cache(images, labels, torch.tensor(known), tuple(names), tuple(frames))


def _publish(partial: Path, home: Path) -> None:
    """Give a finished cache its name; a good one of another process stays, a damaged one is replaced."""
    if home.exists() and _read(home) is None:
        aside = partial.with_suffix(".damaged.partial")
        with suppress(FileNotFoundError):  # another process has replaced it
            home.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        partial.rename(home)
    except OSError:
        if not home.is_dir():
            raise


def _sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished."""
    for partial in folder.glob("*.partial"):
        with suppress(FileNotFoundError):  # another process sweeps, too
            if time.time() - partial.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(partial, ignore_errors=True)
