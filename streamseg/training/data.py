"""Training images at the net's input size, decoded once: in memory, or memory-mapped where there are many."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
from torch import Tensor

from streamseg.datasets.reader import Dataset, Sample
from streamseg.errors import DataError, SinkError
from streamseg.geometry import Letterbox
from streamseg.phantom import render_still
from streamseg.preprocess import letterbox_for
from streamseg.types import InputSpec

LARGE_BYTES = 256 * 2**20
"""From so many bytes on a cache is memory-mapped, also where no folder was given."""
FORMAT = 1
"""Part of every cache's key: to be raised when decoding, letterboxing or the files change."""
AHEAD = 3
"""Batches that are prepared while the net works on one."""
ABANDONED_S = 24 * 3600
"""An unfinished cache of this age was left by a process that was killed."""

Planes = npt.NDArray[np.uint8]
Prepared = tuple[str, Planes, Planes, bool]
"""Name, image (H, W), labels (2, H, W), and whether the vessel plane means anything."""


@dataclass(frozen=True)
class Batch:
    """Some samples, all tensors on one device."""

    images: Tensor
    """float32 (N, 1, H, W), 0..1."""
    labels: Tensor
    """float32 (N, 2, H, W) of 0/1: nerve, vessel."""
    vessel_known: Tensor
    """bool (N,): whether the vessel plane means anything."""
    rows: Tensor
    """int64 (N,): where the samples lie in their cache."""


@dataclass(frozen=True)
class Cache:
    """Letterboxed images and labels, uint8. Nothing may write to the tensors: they may lie on disk."""

    images: Tensor
    """uint8 (N, 1, H, W), 0..255."""
    labels: Tensor
    """uint8 (N, 2, H, W) of 0/1: nerve, vessel."""
    vessel_known: Tensor
    """bool (N,): whether the vessel plane means anything."""
    names: tuple[str, ...]
    """Names of the N samples."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> Batch:
        """The samples of some rows (int64 (N,)), on the CPU. Reads no others."""
        return _to_batch(self._bytes(rows))

    @cached_property
    def fingerprint(self) -> str:
        """sha256, 64 hex digits, of names, images and labels: the same wherever they were read."""
        digest = hashlib.sha256(
            json.dumps([self.names, self.vessel_known.tolist(), *self.images.shape]).encode()
        )
        for planes in (self.images, self.labels):
            digest.update(planes.numpy().data)
        return digest.hexdigest()

    def _bytes(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # numpy copies in this one thread, where torch would start a second pool of threads beside the net's
        images, labels = (
            torch.from_numpy(planes.numpy()[rows.numpy()]) for planes in (self.images, self.labels)
        )
        return images, labels, self.vessel_known[rows], rows


def _to_batch(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> Batch:
    images, labels, known, rows = parts
    return Batch(images.float() / 255, labels.float(), known, rows)


def load_batches(cache: Cache, plan: Sequence[Tensor], device: torch.device | str) -> Iterator[Batch]:
    """The batches of a plan (each int64 (N,), rows of the cache) on a device, in order.

    A thread gathers up to AHEAD batches while the consumer works, pins them and sends them to a GPU as bytes;
    they become float32 there. What it raises arrives at the consumer, and an iterator that is dropped half
    way stops it.
    """
    device = torch.device(device)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        pending: deque[Future[tuple[Tensor, Tensor, Tensor, Tensor]]] = deque()
        try:
            for rows in plan:
                pending.append(pool.submit(_send, cache, rows, device))
                if len(pending) > AHEAD:
                    yield _to_batch(pending.popleft().result())
            while pending:
                yield _to_batch(pending.popleft().result())
        finally:
            for future in pending:
                future.cancel()


def _send(cache: Cache, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    parts = cache._bytes(rows)
    if device.type == "cpu":
        return parts
    # pinning opens the current GPU, which in a new thread is the first one: another process's
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        if device.type == "cuda":
            parts = tuple(part.pin_memory() for part in parts)  # type: ignore[assignment]
        images, labels, known, rows = (part.to(device, non_blocking=True) for part in parts)
        return images, labels, known, rows


def cache_samples(
    samples: Iterable[Sample],
    spec: InputSpec,
    *,
    folder: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Cache:
    """Letterbox samples to the spec's size, exactly as :mod:`streamseg.preprocess` does at inference.

    A :class:`Dataset` is kept in a folder and memory-mapped where ``folder`` is given or the cache exceeds
    LARGE_BYTES (then below the user's cache folder): the next call finds it there, unless a file's name, size
    or time, or the input size, has changed. A damaged one is made anew. Other samples are held in memory.
    ``advance`` is called once per decoded sample.

    Raises DataError (no samples, or a bad one) and SinkError (the folder cannot be written).
    """
    if isinstance(samples, Dataset) and len(samples):
        if folder is None and len(samples) * 3 * spec.height * spec.width > LARGE_BYTES:
            folder = platformdirs.user_cache_path("streamseg") / "images"
        if folder is not None:
            return _mapped(samples, spec, folder, advance)
    prepared = list(_prepare(samples, spec, advance))
    if not prepared:
        raise DataError("there are no samples to prepare; the data set or the part of it is empty")
    names, images, labels, known = zip(*prepared, strict=True)
    return Cache(
        torch.from_numpy(np.stack(images))[:, None],
        torch.from_numpy(np.stack(labels)),
        torch.tensor(known),
        names,
    )


def _prepare(samples: Iterable[Sample], spec: InputSpec, advance: Callable[[], None]) -> Iterator[Prepared]:
    for sample in samples:
        box = letterbox_for(sample.image, spec)
        vessel = np.zeros_like(sample.nerve) if sample.vessel is None else sample.vessel
        labels = np.stack([_shrink(box, mask) for mask in (sample.nerve, vessel)])
        yield sample.name, box.apply(sample.image), labels, sample.vessel is not None
        advance()


def _shrink(box: Letterbox, mask: npt.NDArray[np.bool_]) -> Planes:
    """A mask in tensor pixels: those that are mask for at least half their area."""
    return (box.apply(mask.astype(np.uint8) * 255) >= 128).astype(np.uint8)


def _mapped(data: Dataset, spec: InputSpec, folder: Path, advance: Callable[[], None]) -> Cache:
    """The cache of a data set below a folder, made if it is not there whole."""
    home = folder / _key(data, spec)
    found = _read(home)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        partial = Path(tempfile.mkdtemp(prefix=f"{home.name}.", suffix=".partial", dir=folder))
        try:
            _write(partial, data, spec, advance)
            made = _read(partial)
            _publish(partial, home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SinkError(
            f"cannot keep prepared images in {folder}: {error.strerror or error}; "
            "free space or choose another folder"
        ) from error
    if made is None:
        raise SinkError(f"prepared images in {folder} read back otherwise than written; check that disk")
    return made


def _key(data: Dataset, spec: InputSpec) -> str:
    """What a cache was made of, as sha256. Raises DataError for a file that went away."""
    made_of: list[object] = [FORMAT, spec.height, spec.width]
    for entry in data.entries:
        for path in (entry.image, entry.mask):
            try:
                state = path.stat()
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror}; restore or remove it") from error
            made_of.append((str(path.resolve()), state.st_size, state.st_mtime_ns))
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished."""
    for partial in folder.glob("*.partial"):
        if time.time() - partial.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, data: Dataset, spec: InputSpec, advance: Callable[[], None]) -> None:
    """Write ``images.npy``, ``labels.npy`` and ``cache.json``.

    By ordinary writes: on a full disk they raise, where a memory map would kill the process.
    """
    names, known = [], []
    with (folder / "images.npy").open("wb") as images, (folder / "labels.npy").open("wb") as labels:
        _write_header(images, (len(data), 1, spec.height, spec.width))
        _write_header(labels, (len(data), 2, spec.height, spec.width))
        for name, image, planes, vessel_known in _prepare(data, spec, advance):
            images.write(image.tobytes())
            labels.write(planes.tobytes())
            names.append(name)
            known.append(vessel_known)
    cache = _open(folder, names, known)
    text = json.dumps({"names": names, "vessel_known": known, "fingerprint": cache.fingerprint})
    (folder / "cache.json").write_text(text, encoding="utf-8")


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _open(folder: Path, names: Sequence[str], known: Sequence[bool]) -> Cache:
    # mode "c" because torch wants memory that it may write to; what was written would stay in this process
    images, labels = (
        torch.from_numpy(np.load(folder / name, mmap_mode="c", allow_pickle=False))
        for name in ("images.npy", "labels.npy")
    )
    return Cache(images, labels, torch.tensor(known), tuple(names))


def _read(folder: Path) -> Cache | None:
    """The cache in a folder, or None where none is or it is not what was written."""
    try:
        about = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        cache = _open(folder, about["names"], about["vessel_known"])
        return cache if cache.fingerprint == about["fingerprint"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _publish(partial: Path, home: Path) -> None:
    """Give a finished cache its name; what another process finished meanwhile stays, what is damaged goes."""
    if home.exists() and _read(home) is None:
        aside = partial.with_suffix(".damaged.partial")
        home.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        partial.rename(home)
    except OSError:
        if not home.is_dir():
            raise


def phantom_samples(count: int, seed: int) -> Iterable[Sample]:
    """Phantom stills, a little more than half of them without nerve."""
    for number in range(count):
        still = render_still(seed + number)
        yield Sample(f"phantom-{seed + number}", still.image, still.nerve, still.vessel)
