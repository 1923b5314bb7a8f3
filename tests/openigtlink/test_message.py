"""Messages as bytes: exactly those of the specification, and what others send."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from streamseg.openigtlink.message import (
    HEADER_BYTES,
    Header,
    ImageContent,
    content,
    image_body,
    is_intact,
    outline_body,
    string_body,
    to_8_bits,
)

SPACING = (0.2, 0.1)
SQUARE = np.array([[10, 20], [30, 20], [30, 40], [10, 40]], np.int32)


def image_bytes(
    samples: bytes,
    *,
    size: tuple[int, int, int] = (3, 2, 1),
    components: int = 1,
    scalar: int = 3,
    endian: int = 1,
    steps: tuple[float, float] = (0.1, 0.2),
    part: tuple[int, int, int] | None = None,
) -> bytes:
    matrix = (steps[0], 0, 0, 0, steps[1], 0, 0, 0, 1, 0, 0, 0)
    head = struct.pack(
        ">HBBBB3H12f3H3H", 1, components, scalar, endian, 1, *size, *matrix, 0, 0, 0, *(part or size)
    )
    return head + samples


def parse(data: bytes) -> ImageContent:
    return ImageContent.parse(memoryview(data), 10**6)


def test_a_header_has_the_places_of_the_specification() -> None:
    head, body = string_body("State", "hello").message(1_700_000_000_500_000_000)
    assert len(head) == HEADER_BYTES
    assert struct.unpack(">H12s20s", head[:34]) == (1, b"STRING" + bytes(6), b"State" + bytes(15))
    assert struct.unpack(">II", head[34:42]) == (1_700_000_000, 1 << 31)
    assert struct.unpack(">Q", head[42:50])[0] == len(body)
    assert body == b"\0\3\0\5hello"
    header = Header.parse(head)
    assert (header.kind, header.device, header.sent_ns) == ("STRING", "State", 1_700_000_000_500_000_000)
    assert is_intact(header, body)
    assert not is_intact(header, body[:-1] + b"a")


def test_time_stamps_survive() -> None:
    for ns in (0, 1, 999_999_999, 1_764_513_460_123_456_789):
        head, _ = string_body("a", "").message(ns)
        assert Header.parse(head).sent_ns == ns


@pytest.mark.parametrize("colour", [False, True])
def test_an_image_survives(colour: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3) if colour else (20, 30), np.uint8)
    found = parse(image_body("Ultrasound", image, SPACING).data)
    assert np.array_equal(found.samples, image[..., ::-1] if colour else image)
    assert found.spacing_mm == pytest.approx(SPACING)


def test_the_matrix_puts_the_first_pixel_at_the_origin() -> None:
    data = image_body("Ultrasound", np.zeros((20, 30), np.uint8), SPACING).data
    matrix = struct.unpack_from(">12f", data, 12)
    assert (matrix[0], matrix[4]) == pytest.approx((0.1, 0.2))
    assert matrix[9:] == pytest.approx((29 / 2 * 0.1, 19 / 2 * 0.2, 0))


def test_outlines_are_closed_lines_in_millimetres() -> None:
    data = outline_body("nerve", [SQUARE, SQUARE + 5], SPACING).data
    counts = struct.unpack_from(">10I", data)
    assert counts == (8, 0, 0, 2, 48, 0, 0, 0, 0, 0)
    points = np.frombuffer(data, ">f4", 24, 40).reshape(8, 3)
    assert points[:4] == pytest.approx(np.array([[1, 4, 0], [3, 4, 0], [3, 8, 0], [1, 8, 0]]))
    lines = np.frombuffer(data, ">u4", offset=40 + 8 * 12)
    assert lines.tolist() == [5, 0, 1, 2, 3, 0, 5, 4, 5, 6, 7, 4]
    assert outline_body("nerve", [], SPACING).data == bytes(40)


@pytest.mark.parametrize(("scalar", "kind"), [(4, "i2"), (5, "u2")])
@pytest.mark.parametrize("endian", [1, 2])
def test_sixteen_bits_in_either_order(scalar: int, kind: str, endian: int) -> None:
    values = np.array([[0, 1, 256], [1000, 2000, 4095]], f"{'>' if endian == 1 else '<'}{kind}")
    found = parse(image_bytes(values.tobytes(), scalar=scalar, endian=endian))
    assert found.samples.tolist() == values.tolist()
    assert to_8_bits(found.samples, 4).tolist() == [[0, 0, 16], [62, 125, 255]]


def test_negative_samples_are_black_and_large_ones_white() -> None:
    assert to_8_bits(np.array([-5, 3, 9999], np.int16), 0).tolist() == [0, 3, 255]


def test_the_fourth_channel_is_left_out() -> None:
    found = parse(image_bytes(bytes(range(24)), components=4))
    assert found.samples.shape == (2, 3, 3)
    assert found.samples[0, 1].tolist() == [4, 5, 6]


@pytest.mark.parametrize("steps", [(1.0, 1.0), (0.0, 0.1), (np.nan, 0.1), (1e9, 0.1), (50.0, 50.0)])
def test_a_matrix_that_cannot_be_true_gives_no_spacing(steps: tuple[float, float]) -> None:
    assert parse(image_bytes(bytes(6), steps=steps)).spacing_mm is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"short", "header is cut"),
        (image_bytes(bytes(5)), "5 bytes for 3x2 pixels, which need 6"),
        (image_bytes(bytes(7)), "7 bytes"),
        (image_bytes(bytes(12), size=(3, 2, 2)), "single slices"),
        (image_bytes(b"", size=(0, 2, 1)), "0x2x1"),
        (image_bytes(bytes(6), size=(60_000, 60_000, 1)), "the limit is 1 megapixels"),
        (image_bytes(bytes(24), scalar=10), "1 values of float32 a pixel"),
        (image_bytes(bytes(12), components=2), "2 values of"),
        (image_bytes(bytes(6), part=(3, 1, 1)), "a part of an image"),
    ],
)
def test_other_images_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(data)


def test_version_3_has_its_content_between_extended_header_and_metadata() -> None:
    inner = image_bytes(bytes(range(6)))
    body = struct.pack(">HHII", 12, 4, 3, 7) + inner + b"HEADmet"
    header = Header(2, "IMAGE", "a", 0, len(body), 0)
    assert bytes(content(header, body)) == inner
    for wrong in (b"\0", struct.pack(">HHII", 12, 9000, 9000, 0), struct.pack(">HHII", 2, 0, 0, 0)):
        with pytest.raises(ValueError, match="extended header"):
            content(header, wrong)


@pytest.mark.parametrize("data", [bytes(58), b"HTTP/1.1 400 Bad Request".ljust(58), b"\0\1" + b"\xff" * 56])
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not OpenIGTLink"):
        Header.parse(data)
