"""Masks of frames as a decoder returns them, beside those of the images that were encoded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

# isort: split
import av

from streamseg.backends.loading import load_backend
from streamseg.capture.video.pixels import DecodedPicture, FrameConverter
from streamseg.core.types import Frame
from streamseg.evaluation.overlap import Confusion
from streamseg.phantom import PhantomVideo
from streamseg.segmentation.segmenter import Segmenter


@pytest.mark.parametrize(("pixels", "color_range"), [("yuv420p", 1), ("yuvj420p", 2)])
def test_the_default_engine_outlines_the_same_in_the_luma_as_in_the_image(
    pixels: str, color_range: int
) -> None:
    video = PhantomVideo(3, height=420, width=580, fps=30, nerve=True)
    segmenter = Segmenter(load_backend())
    of_luma, of_colours = [], []
    for number in (0, 10, 20):
        image = video.frame(number).image
        bgr = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        coded = av.VideoFrame.from_ndarray(np.asarray(bgr, np.uint8), format="bgr24").reformat(format=pixels)
        coded.color_range = color_range
        picture = FrameConverter().picture(coded)
        assert isinstance(picture, DecodedPicture)
        expected = segmenter.segment(Frame(image, 0, 0)).mask
        assert expected.any()
        for found, pixels_of in (of_luma, picture), (of_colours, FrameConverter().convert(coded)):
            mask = segmenter.segment(Frame(pixels_of, 0, 0)).mask
            found.append(Confusion.count(mask, expected).dice)
    assert np.mean(of_luma) > 0.97, "rounding of the luma to 220 levels is all that differs"
    assert np.mean(of_luma) > np.mean(of_colours) - 0.01
