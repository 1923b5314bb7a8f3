"""Which of the modes that a grabber lists is chosen."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from streamseg.capture.v4l2.formats import PixelFormat, Rates, Size
from streamseg.capture.v4l2.modes import Wish, check_wish, choose_mode
from streamseg.core.errors import SourceError, UsageError


def rates(*values: float) -> Rates:
    return Rates(tuple(Fraction(value).limit_denominator(1001) for value in values))


def formats(**sizes: list[Size]) -> list[PixelFormat]:
    return [PixelFormat(code, code.lower(), tuple(listed)) for code, listed in sizes.items()]


USB2 = formats(
    MJPG=[Size(1920, 1080, rates(60, 30)), Size(640, 480, rates(60, 30))],
    YUYV=[Size(1920, 1080, rates(5)), Size(1280, 720, rates(10)), Size(640, 480, rates(30, 20))],
)
USB3 = formats(
    YUYV=[Size(1920, 1080, rates(60, 30)), Size(720, 576, rates(50, 25))],
    NV12=[Size(1920, 1080, rates(60, 30))],
    MJPG=[Size(3840, 2160, rates(30)), Size(1920, 1080, rates(120, 60, 30))],
)
SCALER = formats(
    YUYV=[Size(48, 32, Rates((Fraction(60), Fraction(1)), continuous=True), up_to=(1920, 1200))],
)


@pytest.mark.parametrize(
    ("listed", "mode"),
    [
        (USB2, "mjpeg 1920x1080 at 60"),  # uncompressed there is only a ninth of the pixels fast enough
        (USB3, "yuyv 1920x1080 at 60"),
        (SCALER, "yuyv 1280x720 at 60"),  # its current size
        (
            formats(GREY=[Size(640, 480, rates(15, 10))], MJPG=[Size(320, 240, rates(20))]),
            "mjpeg 320x240 at 20",
        ),
        (formats(YUYV=[Size(4096, 2160, rates(30)), Size(3840, 2160, rates(30))]), "yuyv 3840x2160 at 30"),
        (formats(YUYV=[Size(640, 480, rates(240, 120))]), "yuyv 640x480 at 120"),
        (formats(UYVY=[Size(720, 480)], H264=[Size(1920, 1080, rates(60))]), "uyvy 720x480"),
        (formats(YUYV=[]), "yuyv 1280x720"),  # a driver that lists no sizes
        (
            formats(MJPG=[Size(1280, 720, rates(30))], YUYV=[Size(1024, 576, rates(30))]),
            "yuyv 1024x576 at 30",
        ),
    ],
)
def test_the_default_mode_follows_the_rule(listed: list[PixelFormat], mode: str) -> None:
    assert str(choose_mode("d", listed, Wish(), (1280, 720))) == mode


@pytest.mark.parametrize(
    ("listed", "wish", "mode"),
    [
        (USB2, Wish(pixel_format="yuyv"), "yuyv 640x480 at 30"),
        (USB2, Wish(size=(1280, 720)), "yuyv 1280x720 at 10"),
        (USB2, Wish(rate=Fraction(20)), "yuyv 640x480 at 20"),
        (USB3, Wish(rate=Fraction(120)), "mjpeg 1920x1080 at 120"),
        (USB3, Wish(pixel_format="nv12", rate=Fraction(30000, 1001)), "nv12 1920x1080 at 30"),
        (USB3, Wish(size=(3840, 2160)), "mjpeg 3840x2160 at 30"),
        (SCALER, Wish(size=(800, 600), rate=Fraction(25)), "yuyv 800x600 at 25"),
        (formats(YUYV=[]), Wish(size=(800, 600)), "yuyv 800x600"),
    ],
)
def test_requested_settings_are_binding(listed: list[PixelFormat], wish: Wish, mode: str) -> None:
    assert str(choose_mode("d", listed, wish, (1280, 720))) == mode


@pytest.mark.parametrize(
    ("listed", "wish", "message"),
    [
        (USB2, Wish(pixel_format="grey"), "d has no pixel format grey; it has mjpeg, yuyv"),
        (SCALER, Wish(size=(16, 16)), "d has no size 16x16; it has yuyv 48x32 to 1920x1200"),
        (SCALER, Wish(rate=Fraction(90)), "it has yuyv 1280x720 at 60 to 1"),
        (USB2, Wish(size=(1280, 720), rate=Fraction(60)), "it has yuyv 1280x720 at 10"),
    ],
)
def test_modes_that_the_device_lacks_are_refused(listed: list[PixelFormat], wish: Wish, message: str) -> None:
    with pytest.raises(UsageError) as error:
        choose_mode("d", listed, wish, (1280, 720))
    assert message in str(error.value)


def test_a_long_list_is_cut() -> None:
    many = formats(YUYV=[Size(16 * k, 16) for k in range(1, 40)])
    with pytest.raises(UsageError) as error:
        choose_mode("d", many, Wish(size=(5, 5)), (1, 1))
    assert str(error.value).endswith("yuyv 192x16, ...")


@pytest.mark.parametrize(("listed", "codes"), [(formats(H264=[], BA81=[]), "H264, BA81"), ([], "nothing")])
def test_a_device_without_a_readable_format(listed: list[PixelFormat], codes: str) -> None:
    with pytest.raises(SourceError, match=f"d delivers {codes}, which cannot be read; supported are yuyv"):
        choose_mode("d", listed, Wish(), (640, 480))


@pytest.mark.parametrize(
    "wish",
    [
        {"size": (0, 480)},
        {"size": (640, -1)},
        {"size": (100_000, 480)},
        {"rate": Fraction(0)},
        {"rate": Fraction(-30)},
        {"rate": Fraction(5000)},
        {"pixel_format": "h264"},
        {"pixel_format": "YUYV"},
    ],
)
def test_impossible_wishes(wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        check_wish(Wish(**wish))
