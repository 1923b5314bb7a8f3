"""Decodes live frames without delay, and holds back every one that is not whole."""

from __future__ import annotations

from fractions import Fraction

# OpenCV comes first: the other order hangs its window.
import cv2  # noqa: F401

# isort: split
import av
from av.codec.context import Flags

from streamseg.capture.geometry import MAX_FRAME_PIXELS
from streamseg.capture.rtsp.nal import CodedPicture
from streamseg.core.errors import SourceError

_START = b"\0\0\0\1"
# As strict as the decoder can be. Not "explode" for H.264: it would leave the concealment of a damaged
# picture half done, and the next key picture would show the rest of it.
_STRICT = {"h264": "crccheck+aggressive", "hevc": "crccheck+explode", "mjpeg": "explode"}
_PATIENCE = 3
"""Key frames that fail before any has succeeded, until the encoder counts as a sloppy one."""
_REMEMBERED = 64
_MAX_BYTES_PER_PIXEL = 3
"""At the largest frames. A stream may have a decoder store 17 of them, and with 4:4:4 and 10 bits, of 6 bytes
a pixel, they would fill 2 GB: smaller ones may have that."""


class PictureDecoder:
    """Decodes each picture as soon as it is there, and makes none up.

    FFmpeg conceals what is missing from a picture, and every later one that refers to it looks right while
    it is wrong. So if anything is missing or does not decode, nothing passes until the next key frame.
    """

    def __init__(self, codec: str, parameter_sets: tuple[bytes, ...] = ()) -> None:
        """``codec`` is FFmpeg's name. Raises SourceError if it cannot be decoded here."""
        self._codec = codec
        self._context = self._open(_STRICT[codec])
        self._given = self._sets = b"".join(_START + unit for unit in parameter_sets)
        self._arrivals: dict[int, int] = {}
        self._started = False
        self._failed = 0
        self.waiting = True
        """Whether a key frame is awaited."""
        self.refreshing = False
        """Whether decoding has begun, but nothing is complete yet: a gradual refresh takes seconds."""
        self.damaged = 0
        """Frames that were left out because they, or others that they need, are damaged or lost."""

    @property
    def rate(self) -> Fraction | None:
        """Frames per second as the stream itself gives them, if it does."""
        rate = self._context.framerate
        return Fraction(rate) if rate and 1 <= rate <= 1000 else None

    @property
    def aspect(self) -> Fraction | None:
        """Width of a pixel divided by its height, as the stream itself says, or None."""
        return self._context.sample_aspect_ratio

    def decode(self, coded: CodedPicture, pts: int) -> list[tuple[av.VideoFrame, int]]:
        """Frames that are complete now, each with the time at which it arrived; mostly one."""
        if coded.broken or (self.waiting and not coded.key):
            # Before the first key frame nothing is damaged, we only came in the middle.
            self.damaged += self._started
            self._lose()
            return []
        packet = av.Packet(self._sets + coded.data)
        self._sets = b""  # later ones come in the stream, and count more
        packet.pts = packet.dts = pts
        self._remember(pts, coded.arrived_ns)
        try:
            pictures = self._context.decode(packet)
        except av.FFmpegError:
            pictures = None
        self._check_memory()
        if pictures is None or any(picture.is_corrupt for picture in pictures):
            self.damaged += self._started
            self._lose()
            self._doubt()
            return []
        self.refreshing = (self.waiting or self.refreshing) and not pictures
        self.waiting = False
        self._started = True
        return [(picture, self._arrivals.get(picture.pts or 0, coded.arrived_ns)) for picture in pictures]

    def _check_memory(self) -> None:
        """Raise SourceError before a stream of large and deep pixels has filled the decoder with frames."""
        context, layout = self._context, self._context.format
        if layout is None:
            return
        size = context.width * context.height * layout.padded_bits_per_pixel // 8
        if size > MAX_FRAME_PIXELS * _MAX_BYTES_PER_PIXEL:
            raise SourceError(
                f"its frames have {context.width}x{context.height} pixels of {layout.name}, "
                "which is too much; send 4:2:0 with 8 bits"
            )

    def _open(self, recognition: str) -> av.VideoCodecContext:
        try:
            context = av.CodecContext.create(self._codec, "r")
        except av.FFmpegError as error:
            raise SourceError(f"{self._codec} cannot be decoded here; send H.264") from error
        assert isinstance(context, av.VideoCodecContext)
        # With several threads a frame comes out several frames late, or its damage is not marked.
        context.thread_count = 1
        context.thread_type = "NONE"
        context.flags |= Flags.low_delay
        context.options = {"err_detect": recognition, "max_pixels": str(MAX_FRAME_PIXELS)}
        return context

    def _doubt(self) -> None:
        """Some encoders bend the rules in every picture: theirs are decoded as well as possible."""
        self._failed += not self._started
        if self._failed == _PATIENCE:
            self._context = self._open("crccheck")
            self._sets = self._given

    def _lose(self) -> None:
        """Forget all pictures, so that none can refer to a damaged one."""
        if self._arrivals:
            self._context.flush_buffers()
            self._arrivals.clear()
        self.waiting, self.refreshing = True, False

    def _remember(self, pts: int, arrived_ns: int) -> None:
        self._arrivals[pts] = arrived_ns
        while len(self._arrivals) > _REMEMBERED:
            del self._arrivals[next(iter(self._arrivals))]
