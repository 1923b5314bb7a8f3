"""Sources of frames. :func:`open_source` opens any path or address that holds a recording."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from streamseg.capture.files import (
    check_readable,
    is_clip,
    is_dicom,
    is_folder,
    is_image,
    kind_of,
    missing_from_disk,
    visible_files,
)
from streamseg.capture.recording.format import is_recording, recordings_in
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.files import natural_key
from streamseg.core.plugins import Plugin, source_plugin
from streamseg.core.types import Say, Source
from streamseg.reporting.formatting import counted

__all__ = ["list_clips", "open_source"]

_MAX_FOLDERS = 10_000
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def open_source(uri: str | Path, *, start_seconds: float = 0.0, sar: Fraction | None = None) -> Source:
    """Open a recording: a video, a folder of images, one image, a DICOM file, ``phantom:``, or a plug-in's.

    The folder of a recorded live run opens as a recording, and so does a folder that holds exactly one.

    ``start_seconds`` counts from the first frame; only frames at or after it are delivered, with indices
    from 0. Frames come as :class:`streamseg.core.types.Source` describes; if the recording is cut or damaged,
    the iterator raises SourceCut or SourceError after the last frame. ``sar`` is the width of a pixel divided
    by its height, where the file itself is wrong. Raises UsageError (no such file, a folder of clips, an
    impossible start, ``sar`` of a source whose pixels are square), SourceError (none of these kinds),
    MissingExtra (a decoder is not installed).
    """
    text = str(uri)
    if sar is not None and (text.startswith("phantom:") or source_plugin(text) is not None):
        raise _is_square(text)
    if text.startswith("phantom:"):
        from streamseg.capture.phantom import PhantomSource

        return PhantomSource.from_uri(text, start_seconds=start_seconds)
    if (plugin := source_plugin(text)) is not None:
        return _open_plugin(plugin, text, start_seconds)
    if scheme := _SCHEME.match(text):
        # The address may hold a password: only its scheme is repeated.
        live = "only 'streamseg live' does; " if scheme[1].lower() in {"rtsp", "rtsps", "igtl"} else ""
        raise UsageError(f"cannot open {scheme[1]}:// addresses; {live}give a file, a folder or phantom:")
    path = Path(uri)
    if is_folder(path):
        return _open_folder(path, start_seconds, sar)
    check_readable(path)
    kind = kind_of(path)
    if kind == "image":
        from streamseg.capture.images import ImageSource

        return ImageSource([path], path.name, start_seconds=start_seconds, sar=sar)
    if kind == "dicom":
        from streamseg.capture.dicom.source import open_dicom

        return open_dicom(path, start_seconds=start_seconds, sar=sar)
    from streamseg.capture.video.source import VideoSource

    return VideoSource(path, start_seconds=start_seconds, sar=sar)


def _is_square(name: str) -> UsageError:
    return UsageError(f"the pixels of {name} are square; omit --sar, which videos, images and DICOM take")


def list_clips(uri: str | Path, *, say: Say = lambda message: None) -> list[str]:
    """The clips (videos and DICOM files) of a folder, in natural order; ``[uri]`` for anything else.

    A folder of images without clips is one source, and so is a recorded live run, or a DICOM series of
    single-frame files: they are returned as they are. Subfolders and hidden files are ignored, except those
    of a DICOMDIR, and recorded live runs if the folder holds nothing else. ``say`` gets one line if files are
    missing that a DICOMDIR lists. Raises SourceError for a folder with none of these.
    """
    if str(uri).startswith("phantom:") or source_plugin(str(uri)) or not is_folder(folder := Path(uri)):
        return [str(uri)]
    if is_recording(folder):
        return [str(uri)]
    files = visible_files(folder)
    if clips := [path for path in files if is_clip(path)]:
        return [str(uri)] if _series(clips) else [str(path) for path in clips]
    is_disk = any(path.name.upper() == "DICOMDIR" for path in files)
    if is_disk and (clips_below := _clips_below(folder)):
        if missing := missing_from_disk(folder):
            say(f"{folder} lacks {counted(missing, 'file')} that its DICOMDIR lists; copy the whole disk")
        return clips_below
    if any(is_image(path) for path in files):
        return [str(uri)]
    if recordings := recordings_in(folder):
        return [str(uri)] if len(recordings) == 1 else [str(path) for path in recordings]
    if is_disk:
        raise SourceError(f"{folder} has a DICOMDIR but none of its files; copy the whole disk")
    raise SourceError(
        f"nothing to read in {folder}: looked for videos (.mp4, .mkv, .avi, ...), DICOM files and images "
        f"(.png, .jpg, .tif, ...) directly in it; give a folder that holds some"
    )


def _open_plugin(plugin: Plugin, uri: str, start_seconds: float) -> Source:
    if plugin.live:
        raise UsageError(f"{plugin} is live; only 'streamseg live' opens it")
    if start_seconds:
        raise UsageError(f"{plugin} cannot start at {start_seconds:g} s; leave the start out")
    source: Source = plugin.make(uri)
    return source


def _open_folder(folder: Path, start_seconds: float, sar: Fraction | None) -> Source:
    clips = list_clips(folder)
    if clips != [str(folder)]:
        raise UsageError(
            f"{folder} is a folder of clips ({len(clips)}), which are opened one after another; "
            f"give one of them, such as {clips[0]}"
        )
    if series := _series([path for path in visible_files(folder) if is_clip(path)]):
        from streamseg.capture.dicom.series import DicomSeriesSource

        return DicomSeriesSource(series, folder.resolve().name, start_seconds=start_seconds, sar=sar)
    if recordings := [folder] if is_recording(folder) else recordings_in(folder):
        from streamseg.capture.recording.source import RecordingSource

        if sar is not None:
            raise _is_square(folder.resolve().name)
        return RecordingSource(recordings[0], start_seconds=start_seconds)
    from streamseg.capture.images import ImageSource

    images = [path for path in visible_files(folder) if is_image(path)]
    return ImageSource(images, folder.resolve().name, start_seconds=start_seconds, sar=sar, folder=folder)


def _series(clips: list[Path]) -> list[Path]:
    """The files of a folder in order, if they are the single frames of one DICOM series; else nothing."""
    if not all(is_dicom(path) for path in clips):
        return []
    from streamseg.capture.dicom.series import series_in

    return series_in(clips)


def _clips_below(folder: Path) -> list[str]:
    """The clips of the tree that a DICOMDIR describes, folder by folder.

    The tree itself is read: the directory file names patients, and is often missing or out of date.
    """
    found: list[str] = []
    folders = [folder]
    for _ in range(_MAX_FOLDERS):
        if not folders:
            break
        here = folders.pop(0)
        try:
            below = sorted(
                (path for path in here.iterdir() if is_folder(path) and not path.is_symlink()),
                key=natural_key,
            )
        except OSError:
            continue
        if here != folder and (clips := [path for path in visible_files(here) if is_clip(path)]):
            found += [str(here)] if _series(clips) else [str(path) for path in clips]
        folders = below + folders
    return found
