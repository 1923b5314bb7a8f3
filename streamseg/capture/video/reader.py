"""Decodes one video stream of a file, and counts what is damaged or missing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

# OpenCV comes first: the other order hangs its window.
import cv2  # noqa: F401

# isort: split
import av
from av.stream import Disposition

from streamseg.capture.geometry import MAX_FRAME_PIXELS, check_pixels
from streamseg.capture.video.truncation import (
    end_of_first,
    has_broken_structure,
    has_second_file,
    is_cut,
    is_encrypted,
    is_joined,
)
from streamseg.core.errors import SourceError

_READ_ATTEMPTS = 64
"""Consecutive failed reads after which the rest of a damaged file is abandoned."""
_AROUND_JOINT = 3
_MANY_REFERENCES = frozenset(("h264", "hevc", "vvc", "vp8", "vp9", "av1", "libdav1d"))
_MAX_REFERENCE_BYTES = 34_000_000
"""Bytes of a frame that others refer to: 4K with 10 bits and 4:2:2, or 17 megapixels with 8 bits."""
_MAX_SINGLE_PIXELS, _MAX_SINGLE_BYTES = 36_000_000, 108_000_000
"""Pixels (8K has 33 million) and bytes of a frame that no other refers to: a decoder holds one or two."""
_MAX_EQUAL_STAMPS = 2
_TEXT_CODECS = frozenset(("ansi", "bintext", "xbin", "idf"))
_JOINED_ANYWHERE = frozenset(("mpegts", "mpeg", "mpegvideo", "h264", "hevc"))
_TIMED_FORMATS = frozenset(("mov", "matroska", "flv"))
_LIST_FORMATS = frozenset(("hls", "dash", "concat", "sdp", "imf"))

TimedFrame = tuple[av.VideoFrame, int | None]
"""A decoded frame and its time in units of the stream's time base."""


class VideoReader:
    """Frames of one open file, once. Raises PyAV's exceptions, and SourceError if the file is not a video."""

    def __init__(self, path: Path, file: Any = None) -> None:
        """Open a file, or a stream inside it: ``file`` has read, seek and tell."""
        end = end_of_first(path) if file is None else None
        self._container = _open(path, file, MAX_FRAME_PIXELS, end)
        self.max_pixels = MAX_FRAME_PIXELS
        """Pixels that a frame may have."""
        if file is None and _has_large_single_frames(self._container):
            # Only now, because FFmpeg already decodes a few frames when it opens a file.
            self._container.close()
            self.max_pixels = _MAX_SINGLE_PIXELS
            self._container = _open(path, file, self.max_pixels, end)
        self._path = path
        self.damaged = 0
        self._last_read_failed = False
        # A recording of a stream may begin between key frames: what precedes the first one cannot be
        # decoded, and is not damaged.
        self._tuned_in = self._kind not in _JOINED_ANYWHERE
        self.starts_late = False
        """Whether packets came before the first key frame, whose frames are missing."""
        try:
            self.stream = _choose_stream(self._container, path)
            # One thread takes a third less processor time than several, which inference needs more; and
            # only then is it certain which packet an error belongs to.
            self.stream.thread_type = "NONE"
            self.stream.codec_context.options = {"max_pixels": str(self.max_pixels)}
            self._first_aspect = self.stream.codec_context.sample_aspect_ratio
            _check_size(path.name, self.stream.codec_context, self.max_pixels)
            if file is None and self._kind == "mov" and is_encrypted(path):
                raise SourceError(f"{path.name} is encrypted; export it without protection")
            self._is_part = file is not None or end is not None
            self.cut: bool | None = None if self._is_part else is_cut(path, self._container.format.name)
        except BaseException:
            self._container.close()
            raise
        # Only the H.264 decoder reliably marks a frame whose end is missing. With others the last frame
        # before a cut is dropped if the format does not state its length.
        marks = self.stream.codec_context.name == "h264"
        unmarked = self._kind == "gif" or (self._kind in _JOINED_ANYWHERE and not marks)
        self._last_is_incomplete = self.cut is True and unmarked
        # AVI stores no presentation times; FFmpeg reports decoding times in their place.
        self._reorder_times = self._kind == "avi"
        self.has_second = end is not None
        """After the last frame: whether another recording follows that was not read."""
        self._times: list[int] = []
        self._clock = ContinuousTime(self.stream)
        self._previous_dts: int | None = None
        self._number = 0
        self._marked_number: int | None = None
        """Number of the latest packet that FFmpeg marked as corrupt and that decoded without an error."""

    @property
    def _kind(self) -> str:
        """FFmpeg's first name for the format."""
        return self._container.format.name.partition(",")[0]

    def close(self) -> None:
        self._container.close()

    def seek(self, pts: int) -> None:
        """Go to the last key frame at or before a time. Call before :meth:`frames`.

        Stays at the beginning in formats that do not store a time for every frame (such as AVI and MPEG
        program streams): the times that FFmpeg computes after a jump may be a frame off. So it does in
        transport streams and joined files, whose times may begin again in the middle.
        """
        if self._kind in _TIMED_FORMATS and not is_joined(self._path, self._container.format.name):
            self._container.seek(pts, stream=self.stream)

    @property
    def stream_count(self) -> int:
        """Video streams in the file, without cover art; the first of them is read."""
        return len(_video_streams(self._container))

    @property
    def aspect(self) -> Fraction | None:
        """Width of a pixel divided by its height: the container's, until that of the codec changes."""
        now = self.stream.codec_context.sample_aspect_ratio
        return now if now != self._first_aspect else self.stream.sample_aspect_ratio

    def estimate_frames(self, rate: Fraction | None, start_seconds: float) -> int | None:
        stream, container = self.stream, self._container
        seconds: Fraction | None = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = stream.duration * stream.time_base
        elif container.duration is not None:
            seconds = Fraction(container.duration, av.time_base)
        if start_seconds == 0 and stream.frames > 0:
            return stream.frames
        if seconds is None or rate is None:
            return None
        return max(1, round((seconds - Fraction(start_seconds)) * rate))

    def frames(self) -> Iterator[TimedFrame]:
        """Decode all frames with their times. Afterwards ``cut`` and ``damaged`` are final."""
        packet: av.Packet[av.VideoStream] | None = None
        for following in chain(self._packets(), (None,)):
            if packet is not None:
                yield from self._decode(packet, is_last=following is None)
            last, packet = packet, following
        if last is not None:
            yield from self._flush(last)
        if self._last_read_failed:
            self.cut = True
        if not self._is_part:
            with suppress(OSError):  # deleted meanwhile, which VideoSource reports
                self._inspect_again()

    def _inspect_again(self) -> None:
        """Look for what FFmpeg passed over without a word."""
        name = self._container.format.name
        self.has_second = has_second_file(self._path, name)
        if not self.damaged and not self.cut:
            self.damaged += has_broken_structure(self._path, name)

    def count_packets(self) -> int:
        """The pictures of the file, without decoding them; afterwards nothing is left to decode."""
        return sum(1 for _ in self._packets())

    def _packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        failures = 0
        while failures < _READ_ATTEMPTS:
            try:
                for packet in self._container.demux(self.stream):
                    if packet.size == 0 and packet.dts is None:
                        continue  # PyAV's sign to flush; the decoder is flushed after the last packet
                    failures = 0
                    self._last_read_failed = False
                    yield packet
                return
            except av.FFmpegError:
                # A demuxer may resynchronise after the damage.
                failures += 1
                self.damaged += 1
                self._last_read_failed = True

    def _decode(self, packet: av.Packet[av.VideoStream], *, is_last: bool) -> Iterator[TimedFrame]:
        if self._reorder_times and packet.dts is not None:
            heapq.heappush(self._times, packet.dts)
        self._tuned_in = self._tuned_in or packet.is_keyframe
        self.starts_late = self.starts_late or not self._tuned_in
        self._forgive_joint(packet)
        incomplete = packet.is_corrupt or self._last_is_incomplete
        if incomplete and self._ends_here(is_last):
            return
        marked = damaged = packet.is_corrupt
        try:
            decoded = self.stream.codec_context.decode(packet)
        except av.FFmpegError:
            decoded = []
            marked, damaged = False, not self._ends_here(is_last)
        for frame in decoded:
            if frame.is_corrupt and self._ends_here(is_last and frame.pts == packet.pts):
                continue
            damaged = damaged or frame.is_corrupt
            yield frame, self._time_of(frame)
        if damaged and self._tuned_in:
            self.damaged += 1
            if marked and not any(frame.is_corrupt for frame in decoded):
                self._marked_number = self._number

    def _forgive_joint(self, packet: av.Packet[av.VideoStream]) -> None:
        """Count no damage where two transport streams were joined by `cat`.

        The counter of packets jumps there, so FFmpeg marks one of the last packets before the joint as
        corrupt, though nothing is missing.
        """
        self._number += 1
        previous, self._previous_dts = self._previous_dts, packet.dts
        if previous is None or packet.dts is None or packet.dts >= previous or self._marked_number is None:
            return
        self.damaged -= self._number - self._marked_number <= _AROUND_JOINT
        self._marked_number = None

    def _flush(self, last: av.Packet[av.VideoStream]) -> Iterator[TimedFrame]:
        try:
            decoded = self.stream.codec_context.decode(None)
        except av.FFmpegError:
            self.damaged += 1
            return
        for frame in decoded:
            if frame.is_corrupt and self._ends_here(frame.pts == last.pts):
                continue
            self.damaged += frame.is_corrupt
            yield frame, self._time_of(frame)

    def _ends_here(self, is_last: bool) -> bool:
        """Whether damage is the cut itself: an incomplete last frame is dropped."""
        if not is_last or self.cut is False:
            return False
        self.cut = True
        return True

    def _time_of(self, frame: av.VideoFrame) -> int | None:
        if self._reorder_times:
            return heapq.heappop(self._times) if self._times else None
        return self._clock.continued(frame.pts)


class ContinuousTime:
    """Continues the times of joined recordings (`cat a.ts b.ts`), whose stamps begin again in the middle."""

    def __init__(self, stream: av.VideoStream) -> None:
        rate, base = stream.average_rate or stream.guessed_rate, stream.time_base
        self._step = max(1, round(1 / (rate * base))) if rate and base else 1
        self._offset = 0
        self._last: int | None = None
        self._before: int | None = None
        self._stuck: tuple[int, int] | None = None

    def continued(self, pts: int | None) -> int | None:
        """The frame's time, moved after those before it if the stamps began again."""
        if pts is None:
            return None
        if self._is_stuck(pts):
            self._offset += self._step
        time = pts + self._offset
        if self._last is not None and time < self._last:
            if self._before is not None and self._before < time:
                return time  # the stamp before was wrong, not this one
            self._offset += self._last + self._step - time
            time = self._last + self._step
        elif self._last is not None and self._last < time < self._last + 10 * self._step:
            self._step = time - self._last
        self._before, self._last = self._last, time
        return time

    def _is_stuck(self, pts: int) -> bool:
        """Whether the third frame or more in a row has this stamp, as after the end of a joined MXF file."""
        same, count = self._stuck or (pts, 0)
        self._stuck = pts, count + 1 if pts == same else 1
        return self._stuck[1] > _MAX_EQUAL_STAMPS


def _open(path: Path, file: Any, max_pixels: int, end: int | None) -> av.container.InputContainer:
    """Open a file, or its part up to ``end``, by which FFmpeg does not see what was joined to it."""
    address = str(path.absolute()) if end is None else f"subfile,,start,0,end,{end},,:{path.absolute()}"
    # A title that is not UTF-8 must not keep a file from opening, and a file that names others must not
    # make us open network addresses.
    return av.open(
        address if file is None else file,
        metadata_errors="replace",
        options={
            "protocol_whitelist": "file" if end is None else "file,subfile",
            "max_pixels": str(max_pixels),
        },
    )


def _video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def _has_large_single_frames(container: av.container.InputContainer) -> bool:
    """Whether the first video stream has frames above the usual limit, of which a decoder holds only one."""
    streams = _video_streams(container)
    context = getattr(streams[0], "codec_context", None) if streams else None
    if context is None or not context.codec.intra_only:
        return False
    pixels = int(context.width) * int(context.height)
    return pixels == 0 or pixels > MAX_FRAME_PIXELS  # FFmpeg forgets the size of what it refused


def _check_size(name: str, context: av.VideoCodecContext, max_pixels: int) -> None:
    """Raise SourceError for frames of which a decoder would hold too much."""
    check_pixels(name, context.width, context.height, max_pixels)
    bits = 0 if context.format is None else context.format.padded_bits_per_pixel
    size = f"{context.width}x{context.height}"
    length = context.width * context.height * bits // 8
    if length > _MAX_SINGLE_BYTES:
        raise SourceError(f"{name} has frames of {size} pixels of {bits} bits: too much memory; convert it")
    if length > _MAX_REFERENCE_BYTES and context.codec.name in _MANY_REFERENCES:
        raise SourceError(
            f"{name} has frames of {size} pixels of {bits} bits, of which a decoder may hold 16: "
            "too much memory; convert it to 8 bits, 4:2:0 or a smaller size"
        )


def _choose_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    format_name = container.format.name
    if format_name in _LIST_FORMATS:
        raise SourceError(f"{path.name} is a list of other files ({format_name}); give the recording itself")
    streams = _video_streams(container)
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
        held = f"only {' and '.join(kinds)}" if kinds else "no stream"
        raise SourceError(f"{path.name} holds no video ({held}); give a video, an image folder or DICOM")
    stream = streams[0]
    if getattr(stream, "codec_context", None) is None:
        raise SourceError(f"{path.name} is compressed in a way that cannot be decoded; convert it to H.264")
    if stream.codec_context.name in _TEXT_CODECS:
        raise SourceError(f"{path.name} is text, not a video; give a video, an image folder or DICOM")
    return stream
