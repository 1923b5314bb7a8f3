"""Training images at the net's input size, as bytes, and the batches taken from them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamseg.core.errors import DataError, SinkError
from streamseg.core.types import InputSpec
from streamseg.datasets.reader import Dataset

FORMAT = 1
"""Part of every cache's name: to be raised when decoding, letterboxing or the files change."""
ABANDONED_S = 24 * 3600
"""An unfinished cache of this age was left by a process that was killed."""

Planes = npt.NDArray[np.uint8]
Prepared = tuple[str, Planes, Planes, bool]
"""Name, image (H, W), labels (2, H, W) of 0/1, and whether the vessel plane means anything."""


def load_or_build(data: Dataset, spec: InputSpec, folder: Path, prepared: Iterable[Prepared]) -> Cache:
    """The memory-mapped cache of a data set below a folder.

    ``prepared`` are its samples in order; they are asked for only where the folder does not hold the cache
    whole. Processes that make the same one at once end with one good cache.
    Raises DataError (from ``prepared``, or a file of the data set went away) and SinkError (cannot write).
    """
    home = folder / _key(data, spec)
    found = _read(home)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        partial = Path(tempfile.mkdtemp(prefix=f"{home.name}.", suffix=".partial", dir=folder))
        try:
            made = _write(partial, (len(data), spec.height, spec.width), prepared)
            _publish(partial, home)  # the maps in `made` stay valid whatever becomes of the files' names
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SinkError(
            f"cannot keep prepared images in {folder}: {error.strerror or error}; "
            "free space or choose another folder"
        ) from error
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
        with suppress(FileNotFoundError):  # another process sweeps, too
            if time.time() - partial.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, shape: tuple[int, int, int], prepared: Iterable[Prepared]) -> Cache:
    """Write ``images.npy``, ``labels.npy`` and ``cache.json``, and open them.

    By ordinary writes: on a full disk they raise, where a memory map would kill the process.
    """
    count, height, width = shape
    names, known = [], []
    with (folder / "images.npy").open("wb") as images, (folder / "labels.npy").open("wb") as labels:
        _write_header(images, (count, 1, height, width))
        _write_header(labels, (count, 2, height, width))
        for name, image, planes, vessel_known in prepared:
            images.write(image.tobytes())
            labels.write(planes.tobytes())
            names.append(name)
            known.append(vessel_known)
    cache = _open(folder, names, known)
    text = json.dumps({"names": names, "vessel_known": known, "fingerprint": cache.fingerprint})
    (folder / "cache.json").write_text(text, encoding="utf-8")
    return cache


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
        with suppress(FileNotFoundError):  # another process has replaced it
            home.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        partial.rename(home)
    except OSError:
        if not home.is_dir():
            raise


Gathered = tuple[Tensor, Tensor, Tensor, Tensor]
"""Images, labels (both uint8), vessel_known and rows of some samples."""


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

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(tensor.to(device) for tensor in self._tensors()))

    def joined(self, other: Batch) -> Batch:
        """This batch and then another one, which is on the same device."""
        return Batch(*(torch.cat(pair) for pair in zip(self._tensors(), other._tensors(), strict=True)))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images, self.labels, self.vessel_known, self.rows


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
        """The samples of some rows (int64 (N,)), on the CPU."""
        images, labels, vessel_known, rows = self.gather(rows)
        # numpy works in this one thread, where torch would start a second pool of threads beside the net's
        return Batch(
            torch.from_numpy(np.divide(images.numpy(), np.float32(255), dtype=np.float32)),
            torch.from_numpy(labels.numpy().astype(np.float32)),
            vessel_known,
            rows,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256, 64 hex digits, of names, images and labels: the same wherever they were read."""
        digest = hashlib.sha256(
            json.dumps([self.names, self.vessel_known.tolist(), *self.images.shape]).encode()
        )
        for planes in (self.images, self.labels):
            digest.update(planes.numpy().data)
        return digest.hexdigest()

    def gather(self, rows: Tensor) -> Gathered:
        """Images, labels (uint8), vessel_known, and the rows themselves, copied. Reads no others."""
        images, labels = (
            torch.from_numpy(planes.numpy()[rows.numpy()]) for planes in (self.images, self.labels)
        )
        return images, labels, self.vessel_known[rows], rows
