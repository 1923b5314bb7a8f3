"""Image and metadata in one message: only the region, never an outline past its time."""

import json
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from streamseg.capture import open_source
from streamseg.core.errors import SinkError
from streamseg.core.latency import Percentiles
from streamseg.core.outline_distance import nerve_vessel_distance_mm
from streamseg.core.types import Frame, Roi, State
from streamseg.core.view import Figures, View
from streamseg.sinks.encoder import Encoder
from streamseg.sinks.target import Target
from streamseg.web.message import Packet, encode_jpeg
from tests.web.feeding import parse
from tests.web.views import FORBIDDEN, HEIGHT, WIDTH, view


def decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)


def message(shown: View, *, after_ms: float = 1.0, known: int = 0):
    packet = Packet(shown, 7, b"JPEG")
    return parse(packet.message(shown.at_ns + round(after_ms * 1e6), known))


def test_only_the_region_is_encoded():
    shown = view(1)
    picture = decode(encode_jpeg(shown.frame, shown.roi, 95))
    region = shown.roi.crop(shown.frame.image)[..., 0]
    assert picture.shape == (HEIGHT, WIDTH)  # grey, since the region shows no colour
    assert np.abs(picture.astype(int) - region).mean() < 2
    whole = decode(encode_jpeg(shown.frame, Roi.whole(shown.frame.image), 95))
    assert whole.ndim == 3
    assert np.abs(whole[2, 2].astype(int) - FORBIDDEN).max() < 8


def test_colour_images_stay_colour():
    image = np.full((64, 80, 3), 100, np.uint8)
    image[10:14, 10:40] = (30, 120, 230)
    assert decode(encode_jpeg(Frame(image, 0, 0), Roi.whole(image), 90)).ndim == 3
    nearly = np.full((64, 80, 3), (100, 102, 99), np.uint8)  # what a codec makes of grey
    assert decode(encode_jpeg(Frame(nearly, 0, 0), Roi.whole(nearly), 90)).ndim == 2


def test_a_decoded_frame_without_colour_is_encoded_from_its_luma(tmp_path):
    encoder = Encoder(Target(tmp_path / "a.mp4", force=False), 64, 96, Fraction(1, 25), Fraction(25))
    grey, coloured = np.full((64, 96, 3), 90, np.uint8), np.full((64, 96, 3), (40, 90, 200), np.uint8)
    for number, image in enumerate((grey, coloured)):
        encoder.encode(image, Fraction(number, 25))
    encoder.close()
    with open_source(str(tmp_path / "a.mp4")) as source:
        frames = list(source)
    roi = Roi(8, 8, 48, 32)
    shown = [decode(encode_jpeg(frame, roi, 95)) for frame in frames]
    assert [picture.shape for picture in shown] == [(32, 48), (32, 48, 3)]
    assert abs(float(shown[0].mean()) - 90) < 3
    assert np.abs(shown[1].mean((0, 1)) - (40, 90, 200)).max() < 12


def test_an_image_is_made_smaller_for_tiles():
    wide = np.zeros((900, 1600), np.uint8)
    wide[:, 800:] = 200
    picture = decode(encode_jpeg(Frame(wide, 0, 0), Roi.whole(wide), 85, 720))
    assert picture.shape == (405, 720)
    assert abs(int(picture[200, 300])) < 5 < abs(int(picture[200, 420]))
    assert decode(encode_jpeg(Frame(wide, 0, 0), Roi.whole(wide), 85, 2000)).shape == (900, 1600)


def test_an_image_too_large_for_a_jpeg_is_an_error():
    image = np.zeros((1, 70_000), np.uint8)
    with pytest.raises(SinkError, match="70000x1 pixels; choose a smaller region"):
        encode_jpeg(Frame(image, 0, 0), Roi.whole(image), 85)


def test_outline_is_in_pixels_of_the_region():
    shown = view(2)
    values, jpeg = message(shown)
    (flat,) = values["outline"]
    points = np.array(flat).reshape(-1, 2)
    expected = shown.segmentation.contours[0] - (shown.roi.x, shown.roi.y)
    assert np.array_equal(points.min(axis=0), expected.min(axis=0))
    assert np.array_equal(points.max(axis=0), expected.max(axis=0))
    assert values["size"] == [WIDTH, HEIGHT]
    assert values["picture"] == 7
    assert jpeg == b"JPEG"


def test_times_give_the_remaining_life_of_the_outline():
    shown = view(3, age_s=0.04, budget_s=0.15)
    values, _ = message(shown, after_ms=10)
    assert values["sent"] == pytest.approx(shown.at_ns / 1e6 + 10, abs=0.01)
    assert values["age"] == pytest.approx(50, abs=0.01)
    assert values["life"] == pytest.approx(100, abs=0.01)
    assert values["expires"] - values["sent"] == pytest.approx(100, abs=0.01)


def test_no_outline_is_sent_after_its_expiry():
    shown = view(4)
    packet = Packet(shown, 1, b"")
    before, _ = parse(packet.message(shown.expires_ns - 1, 0))
    after, _ = parse(packet.message(shown.expires_ns, 0))
    assert before["state"] == "nerve"
    assert "outline" in before
    assert after["state"] == "segmentation lagging"
    assert after["reason"]
    assert not {"outline", "expires", "confidence", "area_px"} & set(after)


def test_a_vessel_comes_with_the_nerve_of_its_frame_and_leaves_with_it():
    shown = view(2, vessels=True)
    vessel = shown.segmentation.others["vessel"]
    packet = Packet(shown, 1, b"")
    before, _ = parse(packet.message(shown.expires_ns - 1, 0))
    points = np.concatenate([np.array(flat).reshape(-1, 2) for flat in before["vessel"]["outline"]])
    expected = np.concatenate(vessel.contours) - (shown.roi.x, shown.roi.y)
    assert np.array_equal(points.min(axis=0), expected.min(axis=0))
    assert before["vessel"]["area_px"] == vessel.area_px
    assert before["vessel"]["area_mm2"] == pytest.approx(vessel.area_mm2, abs=0.001)
    apart = nerve_vessel_distance_mm(shown.segmentation, shown.frame.spacing_mm)
    assert before["vessel"]["distance_mm"] == pytest.approx(apart, abs=0.001)
    after, _ = parse(packet.message(shown.expires_ns, 0))
    assert "vessel" not in after
    assert "vessel" not in message(view(2))[0]


def test_no_vessel_is_outlined_in_an_image_unlike_the_training_data():
    shown = view(2, State.UNLIKE_TRAINING, outline=True, vessels=True)
    assert message(shown)[0]["vessel"]["outline"] == []


def test_a_known_image_is_not_sent_again():
    shown = view(5)
    assert message(shown, known=7)[1] == b""
    assert message(shown, known=6)[1] == b"JPEG"


def test_a_view_without_an_image():
    values, jpeg = parse(Packet(View(1, 10**9, State.STARTING, "opening"), 0, b"").message(10**9, 3))
    assert (values["state"], values["reason"], values["picture"], values["age"]) == (
        "starting",
        "opening",
        0,
        None,
    )
    assert jpeg == b""


def test_texts_and_numbers_are_bounded():
    shown = view(6, State.SOURCE_LOST, reason="x" * 100_000, recording="y" * 100_000)
    for spacing in ((float("nan"), 1.0), (0.0, 0.1), (0.1, float("inf"))):
        odd = replace(shown, frame=replace(shown.frame, spacing_mm=spacing))
        values, _ = message(odd)
        assert values["spacing"] is None
        assert len(json.dumps(values)) < 2000


def test_a_huge_image_is_sent_smaller():
    image = np.zeros((8000, 10_000), np.uint8)
    image[:, 5000:] = 200
    picture = decode(encode_jpeg(Frame(image, 0, 0), Roi.whole(image), 80))
    assert 15_000_000 < picture.size <= 16_000_000
    assert picture.shape[1] / picture.shape[0] == pytest.approx(1.25, abs=0.001)


def test_figures_never_measured_are_null():
    nothing = Percentiles.of([])
    shown = replace(
        view(6), figures=Figures(age=nothing, stages={"infer": nothing}, offered_fps=float("nan"))
    )
    values, _ = message(shown)
    assert values["figures"]["age"] == [None] * 4
    assert values["figures"]["stages"] == {"infer": [None] * 4}
    assert values["figures"]["offered_fps"] is None
