"""Every picture at once, and none that is damaged, or refers to one that is."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from streamseg.capture.rtsp import decoder as decoder_module
from streamseg.capture.rtsp.decoder import PictureDecoder
from streamseg.capture.rtsp.nal import CodedPicture, NalAssembler
from streamseg.capture.video.pixels import FrameConverter
from streamseg.core.errors import SourceError
from tests.rtsp_server.barcode import draw, read
from tests.rtsp_server.coded import arrivals_of, encode, packets_of, units_of

coded = cache(encode)
CONVERTER = FrameConverter()


def give(
    decoder: PictureDecoder, number: int, data: bytes, key: bool, *, broken: bool = False
) -> list[int | None]:
    """Decode picture ``number``; returns what the pictures that come out show."""
    picture = CodedPicture(b"" if broken else data, number, 1000 + number, key and not broken, broken)
    out = decoder.decode(picture, number)
    assert all(arrived_ns == 1000 + (shown.pts or 0) for shown, arrived_ns in out)
    return [read(CONVERTER.convert(shown)) for shown, _ in out]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mjpeg"])
def test_each_picture_comes_out_when_it_went_in(codec: str) -> None:
    decoder = PictureDecoder(codec)
    for number, (data, key) in enumerate(coded(codec, 25)):
        assert give(decoder, number, data, key) == [number]
    assert decoder.damaged == 0


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_after_a_loss_nothing_is_shown_until_the_next_key_picture(codec: str) -> None:
    decoder = PictureDecoder(codec)
    shown = []
    for number, (data, key) in enumerate(coded(codec, 25)):
        shown += give(decoder, number, data, key, broken=number == 13)
        assert decoder.waiting == (13 <= number < 20)
    assert shown == [*range(13), *range(20, 25)]
    assert decoder.damaged == 7


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_comes_before_the_first_key_picture_is_no_damage(codec: str) -> None:
    decoder = PictureDecoder(codec)
    shown = []
    for number, (data, key) in list(enumerate(coded(codec, 25)))[5:]:
        shown += give(decoder, number, data, key)
    assert shown == list(range(10, 25))
    assert decoder.damaged == 0


def test_missing_reference_of_h265_is_noticed() -> None:
    decoder = PictureDecoder("hevc")
    shown = []
    for number, (data, key) in enumerate(coded("hevc", 25)):
        if number != 13:
            shown += give(decoder, number, data, key)
    assert shown == [*range(13), *range(20, 25)]


def test_damaged_bytes_in_h264_never_come_out_as_a_picture() -> None:
    """Without arithmetic coding, as most simple encoders, nearly every changed byte is noticed."""
    chance = random.Random(1)
    pictures = encode("h264", 120)
    decoder = PictureDecoder("h264")
    shown: list[int | None] = []
    for number, (data, key) in enumerate(pictures):
        damaged = bytearray(data)
        if chance.random() < 0.1:
            place = chance.randrange(40, len(data) - 24)
            damaged[place : place + 16] = chance.randbytes(16)
        shown += give(decoder, number, bytes(damaged), key)
    assert None not in shown
    assert 20 < len(shown) < 120
    assert decoder.damaged + len(shown) == 120


def test_cut_pictures_never_come_out() -> None:
    for codec in ("h264", "mjpeg"):
        decoder = PictureDecoder(codec)
        for number, (data, key) in enumerate(coded(codec, 25)):
            cut = data[: len(data) * 2 // 3] if number % 10 == 4 else data
            shown = give(decoder, number, cut, key)
            assert shown in ([], [number])
            assert not shown or number % 10 != 4


def test_stream_without_key_pictures_is_shown_once_it_has_recovered() -> None:
    """Encoders that refresh the picture stripe by stripe send recovery points and no key pictures."""
    pictures = encode("h264", 60, {"preset": "veryfast", "x264-params": "intra-refresh=1"}, gop=12)
    decoder = PictureDecoder("h264")
    shown: list[int | None] = []
    for number, (data, _) in list(enumerate(pictures))[5:]:
        recovery = b"\0\0\1\6\6" in data
        shown += give(decoder, number, data, recovery)
    assert None not in shown
    assert 20 < len(shown) < 50


def test_size_may_change_at_a_key_picture() -> None:
    small = encode("h264", 3)
    large = encode("h264", 3, picture=lambda number: draw(number, 320, 480))
    decoder = PictureDecoder("h264")
    sizes = []
    for number, (data, key) in enumerate([*small, *large]):
        for picture, _ in decoder.decode(CodedPicture(data, number, 0, key), number):
            image = CONVERTER.convert(picture)
            assert read(image) == number % 3
            sizes.append(image.shape[:2])
    assert sizes == [(240, 320)] * 3 + [(320, 480)] * 3


def test_parameter_sets_may_come_from_the_description() -> None:
    data = coded("h264", 25)[0][0]
    units = [unit for unit in data.split(b"\0\0\0\1") if unit]
    sets = tuple(unit.rstrip(b"\0") for unit in units if unit[0] & 31 in (7, 8))
    rest = data[data.index(b"\0\0\1", data.index(sets[-1])) :]
    assert give(PictureDecoder("h264"), 0, rest, True) == []
    assert give(PictureDecoder("h264", sets), 0, rest, True) == [0]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mjpeg"])
def test_garbage_is_damage_and_nothing_else(codec: str) -> None:
    decoder = PictureDecoder(codec)
    noise = np.random.default_rng(3)
    for number in range(20):
        assert give(decoder, number, noise.bytes(300), True) == []
    for number, (data, key) in enumerate(coded(codec, 25)):
        assert give(decoder, number, data, key) == [number]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mjpeg"])
def test_frames_above_the_limit_are_refused_before_memory_is_taken(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "MAX_FRAME_PIXELS", 320 * 240 - 1)
    decoder = PictureDecoder(codec)
    for number, (data, key) in enumerate(coded(codec, 25)[:3]):
        assert give(decoder, number, data, key) == []


def test_a_gradual_refresh_is_told_from_a_stream_that_gives_nothing() -> None:
    """Until it is complete nothing comes out for seconds, and waiting must go on."""
    pictures = encode("h264", 80, {"preset": "veryfast", "x264-params": "intra-refresh=1"}, gop=30)
    decoder = PictureDecoder("h264")
    refreshing = []
    for number, (data, _) in list(enumerate(pictures))[5:]:
        give(decoder, number, data, b"\0\0\1\6\6" in data)
        refreshing += [number] * decoder.refreshing
    assert refreshing == list(range(30, 48))
    assert not decoder.waiting


def test_large_frames_of_deep_pixels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder may have to store 17 of them, and each has four times the bytes of a usual one."""
    deep = encode("h264", 3, {"profile": "high444"}, pixels="yuv444p10le")
    decoder = PictureDecoder("h264")
    for number, (data, key) in enumerate(deep):
        assert len(decoder.decode(CodedPicture(data, number, 0, key), number)) == 1
    monkeypatch.setattr(decoder_module, "MAX_FRAME_PIXELS", 320 * 240)
    with pytest.raises(SourceError, match="320x240 pixels of yuv444p10le, which is too much"):
        give(PictureDecoder("h264"), 0, *deep[0])


def test_nothing_is_shown_of_a_gradual_refresh_without_recovery_points() -> None:
    """x265's does not heal: pictures long after a refresh that was joined are wrong, and not marked so."""
    refresh = {"x265-params": "intra-refresh=1:keyint=8:bframes=0:log-level=none"}
    coded = encode("hevc", 40, refresh, gop=8)
    sets = [unit for unit in units_of(coded[0][0]) if unit[0] >> 1 & 63 in (32, 33, 34)]
    assembler, decoder = NalAssembler(hevc=True, parameter_sets=sets), PictureDecoder("hevc", tuple(sets))
    packets = packets_of([data for data, _ in coded[3:]], hevc=True)
    found = [picture for arrival in arrivals_of(packets) for picture in assembler.push(arrival)]
    assert len(found) > 30
    assert not any(decoder.decode(picture, number) for number, picture in enumerate(found))
    assert decoder.waiting
