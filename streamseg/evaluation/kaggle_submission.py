"""Writes the submission file of the Kaggle competition "Ultrasound Nerve Segmentation" without losing work.

Each finished image is noted at once in a file beside the output, ``<output>.progress``; a run that was
interrupted, or that met an unreadable image, resumes from it. The output itself appears whole or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Self

import numpy as np
from filelock import FileLock, Timeout

from streamseg.core.errors import DataError, UsageError
from streamseg.core.files import parse_json
from streamseg.core.numbers import read_integer, whole_number
from streamseg.core.types import Frame
from streamseg.datasets.reader import IMAGE_SUFFIXES, read_grey
from streamseg.datasets.rle import encode
from streamseg.engines.store import NO_LOCKS
from streamseg.evaluation.overlap import Confusion
from streamseg.segmentation.segmenter import Segmenter
from streamseg.sinks.target import Target, sink_errors

FORMAT = 1
"""Of the progress file; other formats are not read."""
HEADER = "img,pixels"
MAX_LINE_BYTES = 64 << 20
"""Of the progress file: the runs of one image are far shorter."""
MAX_AREA = 10**10
"""Pixels of an image."""


@dataclass(frozen=True, slots=True)
class NumberedImage:
    """A test image, which the competition identifies by its number."""

    number: int
    path: Path


def list_test_images(folder: Path) -> tuple[NumberedImage, ...]:
    """The images ``<number>.tif`` (.png, ...) of a folder, or of the ``test/`` in it, in numeric order.

    Files that are not images are ignored. Raises UsageError if there is no such folder, DataError if it holds
    no images, an image whose name is not a number, or two images of one number.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder at {folder}; give the folder of the test images, 1.tif, 2.tif, ...")
    folder = folder / "test" if (folder / "test").is_dir() else folder
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if not path.is_file():  # reading a pipe could block for ever
            raise DataError(f"test image {path} is not a file; remove it")
        if not re.fullmatch("[0-9]{1,15}", path.stem):
            raise DataError(f"test image {path} has no number as its name; expected a name such as 17.tif")
        number = int(path.stem)
        if number in found:
            raise DataError(f"two test images of number {number}: {found[number]} and {path}; keep one")
        found[number] = path
    if not found:
        raise DataError(f"no test images in {folder} ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return tuple(NumberedImage(number, found[number]) for number in sorted(found))


@dataclass(frozen=True, slots=True)
class AreaThreshold:
    """The area below which a prediction becomes empty, and what that does to the Dice."""

    min_pixels: int
    images: int
    dice_before: float
    """Mean Dice, 1 if prediction and label are both empty, without the threshold."""
    dice_after: float
    """With it, on the images that it was chosen on, so slightly optimistic."""


def choose_min_pixels(counts: Sequence[Confusion]) -> AreaThreshold:
    """The area threshold with the highest mean Dice on labelled images; in a tie the smallest.

    Every threshold that makes a difference is tried. Raises ValueError for no images.
    """
    if not counts:
        raise ValueError("no images to choose an area threshold on")
    area = np.array([count.both + count.predicted_only for count in counts])
    dice = np.array([count.dice for count in counts])
    # The gain in Dice when predictions are emptied, accumulated from the smallest prediction on.
    order = np.argsort(area, kind="stable")
    gained = np.cumsum([0.0 if counts[i].present else 1.0 for i in order] - dice[order])
    last_of_its_area = np.append(area[order][1:] != area[order][:-1], True)
    candidates = np.append(0, area[order][last_of_its_area] + 1)
    gains = np.append(0.0, gained[last_of_its_area])
    best = int(np.argmax(gains >= gains.max() - 1e-9))
    before = float(dice.mean())
    return AreaThreshold(
        int(candidates[best]), len(counts), before, before + float(gains[best]) / len(counts)
    )


@dataclass(frozen=True, slots=True)
class Prediction:
    """The nerve found in one test image."""

    area: int
    """Pixels of the image."""
    runs: str
    """Run-length encoded."""


def predict(image: NumberedImage, segmenter: Segmenter) -> Prediction:
    """Segment one test image, in its own pixels. Raises DataError if it cannot be read, EngineError."""
    found = segmenter.segment(Frame(read_grey(image.path), 0, 0))
    return Prediction(int(np.count_nonzero(found.mask)), encode(found.mask))


class ProgressFile:
    """The finished predictions, stored in ``<output>.progress`` until the output is written.

    Use as a context manager. A prediction counts only for the same file (size and time of change) and the
    same ``key``, such as the engine's hash; another key starts anew.
    """

    def __init__(self, out: Path, key: Mapping[str, str]) -> None:
        """Take over what an earlier run finished.

        Raises UsageError for another kind of file or one that another run is writing, and SinkError.
        """
        self.path = out.with_name(f"{out.name}.progress")
        self._first = {"streamseg": "submit", "format": FORMAT, **key}
        self._found: dict[str, tuple[str, Prediction]] = {}
        self._lock = FileLock(out.with_name(f"{out.name}.progress.lock"))
        if self.path.exists() and not self.path.is_file():
            raise UsageError(f"{self.path} is not a file; remove it, or choose another output")
        with sink_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            try:
                self._file: BufferedRandom = self.path.open("a+b")
            except BaseException:
                self._release()
                raise
            try:
                self._take_over()
            except BaseException:
                self.__exit__()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What a full disk did not take would be written again here, and hide the error that says so.
        with suppress(OSError):
            self._file.close()
        self._release()

    def find(self, image: NumberedImage) -> Prediction | None:
        """The finished prediction of this file, if there is one."""
        stamp, prediction = self._found.get(image.path.name, ("", None))
        return prediction if image.path.exists() and stamp == _stamp(image.path) else None

    def add(self, image: NumberedImage, prediction: Prediction) -> None:
        """Note a finished prediction. Raises SinkError."""
        name, stamp = image.path.name, _stamp(image.path)
        with sink_errors(self.path):
            self._write([name, stamp, prediction.area, prediction.runs])
        self._found[name] = stamp, prediction

    def remove(self) -> None:
        """Remove the file: the output is there."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _take_lock(self) -> None:
        """Keep other runs away; the end of the process gives the lock back in any case. Raises UsageError."""
        try:
            self._lock.acquire(timeout=0)
        except NotImplementedError:
            return  # the file system has no locks (some network and FUSE mounts)
        except Timeout as error:
            raise UsageError(
                f"another run is writing {self.path}; wait for it, or choose another output"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise

    def _release(self) -> None:
        with suppress(OSError):  # Windows cannot remove it while it is held, and leaves it
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    def _take_over(self) -> None:
        self._file.seek(0)
        first = self._file.readline(MAX_LINE_BYTES)
        if first and not first.startswith(b'{"streamseg": "submit"'):
            raise UsageError(
                f"{self.path} is not a progress file of submit; remove it, or choose another output"
            )
        good: list[bytes] = []
        damaged = False
        while first == self._line(self._first) and (line := self._file.readline(MAX_LINE_BYTES)):
            # A line that is cut off was being written when the run was killed or the disk filled up.
            if not line.endswith(b"\n"):
                break
            finished = _read_prediction(line)
            if finished is None:
                damaged = True  # its image is made again
                continue
            name, stamp, prediction = finished
            self._found[name] = stamp, prediction
            good.append(line)
        if first != self._line(self._first) or damaged:
            self._file.truncate(0)
            self._write(self._first)
            self._file.write(b"".join(good))
            self._file.flush()
        else:
            self._file.truncate(len(first) + sum(map(len, good)))

    def _write(self, value: object) -> None:
        self._file.write(self._line(value))
        self._file.flush()

    @staticmethod
    def _line(value: object) -> bytes:
        return json.dumps(value).encode("ascii") + b"\n"


def _read_prediction(line: bytes) -> tuple[str, str, Prediction] | None:
    """Name, stamp and prediction of a line of the progress file; None if it is damaged."""
    try:
        name, stamp, area, runs = parse_json(line)
    except (ValueError, TypeError):
        return None
    pixels = whole_number(area, 0, MAX_AREA)
    if pixels is None or not isinstance(name, str) or not isinstance(stamp, str) or not isinstance(runs, str):
        return None
    lengths = [read_integer(word, 1, MAX_AREA) for word in runs.split(" ")] if runs else []
    if len(lengths) % 2 or None in lengths or sum(length or 0 for length in lengths[1::2]) != pixels:
        return None
    return name, stamp, Prediction(pixels, runs)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read the image {path}: {error.strerror}; was it moved?") from error
    return f"{status.st_size} {status.st_mtime_ns}"


def write_submission(out: Path, rows: Mapping[int, Prediction], min_pixels: int, *, force: bool) -> int:
    """Write the file, a line for each image in numeric order; returns the number of empty lines.

    Predictions of fewer than ``min_pixels`` pixels become empty. Raises SinkError, and UsageError if the file
    exists and ``force`` is not set.
    """
    runs_of = {number: row.runs if row.area >= min_pixels else "" for number, row in sorted(rows.items())}
    target = Target(out, force=force)
    try:
        with sink_errors(out):
            lines = (f"{number},{runs}\n" for number, runs in runs_of.items())
            target.part.write_text(f"{HEADER}\n{''.join(lines)}", encoding="ascii", newline="\n")
        target.publish()
    finally:
        target.discard()
    return sum(not runs for runs in runs_of.values())
