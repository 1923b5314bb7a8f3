"""Plans the output files of a replay, and checks them all before any work begins."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamseg.core.errors import UsageError


def plan_outputs(
    clips: Sequence[str], *, folder: bool, video: Path | None, records: Sequence[Path]
) -> list[list[Path]]:
    """The files to write for each clip, in the order of the clips.

    With a ``folder`` of clips every option names a folder, in which each clip gets a file of its own name:
    ``out`` gives out/<clip>.mp4, and ``out.mkv`` gives out/<clip>.mkv (records: .jsonl, or by the suffix).
    Raises UsageError for a file whose suffix is unknown or belongs to the other option.
    """
    from streamseg.sinks import VIDEO_SUFFIXES, record_suffixes

    wanted: list[tuple[Path, tuple[str, ...], str]] = []
    wanted += [] if video is None else [(video, VIDEO_SUFFIXES, "--out")]
    wanted += [(path, record_suffixes(), "--records") for path in records]
    if not folder:
        for path, suffixes, option in wanted:
            _check_suffix(path, suffixes, option)
        return [[path for path, _, _ in wanted]]
    folders = [_folder_and_suffix(path, suffixes) for path, suffixes, _ in wanted]
    return [[into / f"{name}{suffix}" for into, suffix in folders] for name in _clip_names(clips)]


def plan_dicom(clips: Sequence[str], folder: Path | None, *, burned_in: bool) -> list[list[Path]]:
    """The files of results in DICOM for each clip, named after it; none without a ``folder``.

    Raises UsageError for ``burned_in`` without a folder, for a folder that is a file, and if no clip is a
    DICOM file or a series of them, because only the study of one can hold the results.
    """
    from streamseg.capture.dicom.series import series_of_folder
    from streamseg.capture.files import is_dicom
    from streamseg.sinks.dicom import dicom_paths

    if folder is None:
        if burned_in:
            raise UsageError("--burned-in belongs to --dicom; give --dicom DIR, too")
        return [[] for _ in clips]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--dicom {folder} is a file; name a folder")

    def holds_dicom(clip: Path) -> bool:
        return bool(series_of_folder(clip)) if clip.is_dir() else clip.is_file() and is_dicom(clip)

    if not any(holds_dicom(Path(clip)) for clip in clips):
        raise UsageError(
            f"--dicom writes into the study of a DICOM file, and {clips[0]} is none; give a DICOM file, or "
            "--records for other clips"
        )
    return [dicom_paths(folder, name, burned_in=burned_in) for name in _clip_names(clips)]


def _check_suffix(path: Path, suffixes: tuple[str, ...], option: str) -> None:
    if path.suffix.lower() not in suffixes:
        what = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise UsageError(f"{option} {path} {what}; choose one of {', '.join(suffixes)}")


def _folder_and_suffix(path: Path, suffixes: tuple[str, ...]) -> tuple[Path, str]:
    if path.suffix.lower() in suffixes and not path.is_dir():
        return path.with_suffix(""), path.suffix
    return path, suffixes[0]


def _clip_names(clips: Sequence[str]) -> list[str]:
    """A file name, without suffix, for each clip: its stem, or its whole name if stems repeat.

    That of a folder is its whole name: a UID is full of dots.
    """
    paths = [path.resolve() if path.is_dir() else path for path in map(Path, clips)]
    stems = Counter(path.stem for path in paths)
    return [path.name if path.is_dir() or stems[path.stem] > 1 else path.stem for path in paths]


def check_outputs(paths: Sequence[Path], clips: Sequence[str], *, force: bool) -> None:
    """Raise UsageError unless every file may be written: none twice, none a source, none that exists."""
    sources = {Path(clip).resolve() for clip in clips}
    seen: set[Path] = set()
    for path in paths:
        real = path.resolve()
        if real in seen:
            raise UsageError(f"{path} is given twice as an output; give each output a file of its own")
        seen.add(real)
        if real in sources:
            raise UsageError(f"{path} is the source itself; write to another file")
        if path.exists() and any(source in real.parents for source in sources):
            raise UsageError(f"{path} is a part of the source; write to another folder")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file in it, such as {path / 'result'}{path.suffix}")
        if path.exists() and not force:
            raise UsageError(f"{path} exists; choose another name, or overwrite it with --force")
        _check_folder(path)


def _check_folder(path: Path) -> None:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: {folder} is a file, not a folder; choose another place")
    try:
        # Only creating a file tells: root has permission, but a read-only or special file system may refuse.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: cannot create a file in {folder} ({error.strerror}); choose another folder"
        ) from error
