"""What all formats share when they read: files, sizes, names, and one line for each problem."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.annotation.frames import YES, Labels, SelectedFrame
from streamseg.core.errors import StreamsegError, one_line
from streamseg.core.files import parse_json, read_file
from streamseg.core.numbers import whole_number
from streamseg.core.types import Mask

_UPLOADED = re.compile("^[0-9a-f]{8}-")
MAX_BYTES = 1 << 30
"""Of a file with annotations: masks of thousands of frames in one."""


@dataclass
class Reading:
    """Labels as they are collected from files, and the problems that were met."""

    frames: Mapping[str, SelectedFrame]
    """The frames that can have labels, by name."""
    labels: list[Labels] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """One line each, with the file."""

    @contextmanager
    def problem(self, file: Path, where: str = "") -> Iterator[None]:
        """Within the block an error about the file's content becomes a line, and the rest of it is left out.
        The file is then not looked at further; the others are."""
        try:
            yield
        except StreamsegError as error:
            self.problems.append(one_line(error))
        except OSError as error:
            self.problems.append(f"{file}: {one_line(error)}")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else one_line(error, 200)
            self.problems.append(f"{file}{where and f', {where}'}: {what}")

    def frame(self, file_name: object) -> SelectedFrame:
        """The frame of an image's file name or address. Raises ValueError if there is none."""
        if not isinstance(file_name, str):
            raise ValueError("an image has no name")
        bare = file_name.replace("\\", "/").rpartition("/")[2]
        stem = bare.rpartition(".")[0] or bare
        # nnU-Net adds the channel to a name, Label Studio puts eight digits before that of an uploaded file.
        for name in (stem, stem.removesuffix("_0000"), _UPLOADED.sub("", stem)):
            if name in self.frames:
                return self.frames[name]
        raise ValueError(f"there is no frame {stem!r} among those selected; give the selection it belongs to")

    def check_size(self, frame: SelectedFrame, width: object, height: object) -> None:
        """Raise ValueError if a file says that an image has another size; None says nothing."""
        stated = (whole_number(width, 0, 1 << 30), whole_number(height, 0, 1 << 30))
        if None not in stated and stated != (frame.width, frame.height):
            raise ValueError(
                f"it says that frame {frame.name} is {stated[0]}x{stated[1]}, the image is "
                f"{frame.width}x{frame.height}; label the image as it was selected"
            )

    def add(self, frame: SelectedFrame, masks: Mapping[str, Mask], *, looked_at: bool, file: Path) -> None:
        """Add the labels of a frame. Raises ValueError for a second time."""
        if any(labels.name == frame.name for labels in self.labels):
            raise ValueError(f"frame {frame.name} has labels already, in another entry or file; keep one")
        self.labels.append(Labels(frame.name, masks, looked_at, file))


def read_document(path: Path) -> Any:
    """A JSON document. Raises OSError, and ValueError that says that it is not JSON."""
    try:
        return parse_json(read_file(path, MAX_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not JSON: not UTF-8 text") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON: {one_line(error, 120)}") from error


def union(masks: dict[str, Mask], structure: object, part: Mask) -> None:
    """Add a part to a structure's mask. Raises ValueError for a structure without a name."""
    if not isinstance(structure, str) or not structure:
        raise ValueError("a label has no name")
    masks[structure] = masks[structure] | part if structure in masks else np.asarray(part, np.bool_)


def is_yes(value: object) -> bool:
    """Whether a mark says yes: true, or text such as ``yes``."""
    return value is True or (isinstance(value, str) and value.strip().lower() in YES)
