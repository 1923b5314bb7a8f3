"""Writes phantoms in the layout of the Kaggle competition "Ultrasound Nerve Segmentation"."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from streamseg.core.errors import DataError, SinkError, UsageError
from streamseg.phantom import PhantomVideo
from streamseg.phantom.seeds import is_reserved

WIDTH, HEIGHT = 580, 420
"""Size of the competition's images, pixels."""
NERVE_SHARE = 0.42
"""Share of the images that show nerve, about the same as in the competition."""
MIN_NERVE = 60
"""Minimum pixels of nerve in an image that shows nerve; images with fewer, but some, are not written."""
NEXT_FRAME_SHARE = 0.12
"""Share of the images that are the next frame of another one: the competition has such near-duplicates."""
FPS = 30
POOL_FRAMES = 60 * FPS
"""Length of a subject's video, from which its images are picked."""
PARTIAL, REPLACED = "train.partial", "train.replaced"


def write_kaggle(
    out: Path,
    *,
    images: int,
    subjects: int,
    seed: int,
    force: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> int:
    """Write ``images`` images of ``subjects`` people below ``out``; returns the number that show nerve.

    ``train/<subject>_<n>.tif`` is the image and ``train/<subject>_<n>_mask.tif`` its mask (0 or 255), both
    580x420, 8-bit grey; subject and n count from 1. The images of one subject are frames of one video.
    Fewer than half of all show nerve. The same arguments give the same bytes.

    ``train`` appears when it is complete: a run that was killed leaves at most ``train.partial``, which the
    next one replaces. ``progress`` is called once per image. Raises UsageError (impossible numbers; ``out``
    is not empty and ``force`` not given) and SinkError (cannot write). ``force`` replaces ``train`` only.
    """
    _check(out, images, subjects, seed, force=force)
    partial = out / PARTIAL
    # Quotas from running totals, so that rounding never adds up.
    ends = [images * k // subjects for k in range(subjects + 1)]
    nerves = [min(round(NERVE_SHARE * end), (images - 1) // 2) for end in ends]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for leftover in (PARTIAL, REPLACED):
            if (out / leftover).is_dir():
                shutil.rmtree(out / leftover)
        partial.mkdir()
        quotas = zip(pairwise(ends), pairwise(nerves), strict=True)
        for subject, ((first, last), (before, after)) in enumerate(quotas, start=1):
            _write_subject(
                partial, subject, images=last - first, nerves=after - before, seed=seed, progress=progress
            )
        _publish(partial, out)
    except OSError as error:
        raise SinkError(
            f"cannot write the data set to {out}: {error.strerror or error}; "
            "free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return nerves[-1]


def _check(out: Path, images: int, subjects: int, seed: int, *, force: bool) -> None:
    """Raise UsageError for impossible numbers and for an output folder that is not empty."""
    if images < 1:
        raise UsageError(f"cannot write {images} images; give 1 or more")
    if not 1 <= subjects <= images:
        raise UsageError(
            f"cannot divide {images} images among {subjects} subjects; give 1 to {images} subjects"
        )
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative; give 0 or more")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder to write the data set to")
    try:
        held = (
            sorted(p.name for p in out.iterdir() if p.name not in (PARTIAL, REPLACED)) if out.exists() else []
        )
    except OSError as error:
        raise UsageError(f"cannot read {out}: {error.strerror}; choose another folder") from error
    if held and not force:
        raise UsageError(f"{out} is not empty (it holds {held[0]}); choose another folder or give --force")


def _write_subject(
    folder: Path,
    subject: int,
    *,
    images: int,
    nerves: int,
    seed: int,
    progress: Callable[[], None],
) -> None:
    """Write one subject's images, ``nerves`` of them with nerve, in random order."""
    rng = np.random.default_rng((seed, subject))
    video_seed = int(rng.integers(2**31))
    while is_reserved(video_seed):
        video_seed = int(rng.integers(2**31))
    video = PhantomVideo(video_seed, height=HEIGHT, width=WIDTH, fps=FPS)
    chosen = np.array(_choose(video, rng, images, nerves))
    for n, index in enumerate(rng.permutation(chosen), start=1):
        frame = video.frame(int(index))
        mask = frame.nerve.astype(np.uint8) * np.uint8(255)
        Pillow.fromarray(frame.image).save(folder / f"{subject}_{n}.tif")
        Pillow.fromarray(mask).save(folder / f"{subject}_{n}_mask.tif", compression="packbits")
        progress()


def _choose(video: PhantomVideo, rng: np.random.Generator, images: int, nerves: int) -> list[int]:
    """Different frames of a video, ``nerves`` of them with nerve, some of them consecutive."""
    wanted = {True: nerves, False: images - nerves}
    chosen: dict[int, None] = {}
    for index in _candidates(rng, max(POOL_FRAMES, 12 * images)):
        if not any(wanted.values()):
            break
        area = int(video.truth(index).sum())
        shows = area >= MIN_NERVE
        if index not in chosen and wanted[shows] and (shows or area == 0):
            wanted[shows] -= 1
            chosen[index] = None
    if any(wanted.values()):
        raise DataError(f"{video} shows too little of its nerve for {images} images; choose another seed")
    return list(chosen)


def _candidates(rng: np.random.Generator, pool: int) -> Iterator[int]:
    """Every frame of the pool in random order, sometimes followed by the next one in time."""
    for index in rng.permutation(pool):
        yield int(index)
        if rng.random() < NEXT_FRAME_SHARE:
            yield int(index) + 1


def _publish(partial: Path, out: Path) -> None:
    """Put the finished folder in its place; ``train`` is whole at any moment that it exists."""
    final, replaced = out / "train", out / REPLACED
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    if replaced.is_dir() and not replaced.is_symlink():
        shutil.rmtree(replaced)
    else:
        replaced.unlink(missing_ok=True)
