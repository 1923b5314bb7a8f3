"""The flicker benchmark on clips whose figures are known."""

import numpy as np
import pytest

from benchmarks.flicker import Clip, Figures, Shape, measure, phantom, with_drops
from streamseg.core.types import Frame, InputSpec, Mask, Planes, Tensor

HEIGHT, WIDTH, STEP = 60, 100, 2


class BrightIsNerve:
    """A back end for which bright pixels are nerve."""

    name, fingerprint = "bright", "0" * 64
    spec = InputSpec(HEIGHT, WIDTH, mean=0.0, std=1.0, threshold=0.5)

    def infer(self, tensor: Tensor) -> Planes:
        return np.asarray(tensor[0])

    def close(self) -> None:
        """Nothing to free."""


def square(left: int) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[20:40, left : left + 20] = True
    return mask


def moving(count: int = 12) -> list[Mask]:
    return [square(10 + STEP * k) for k in range(count)]


def clip_of(shown: list[Mask], truths: list[Mask] | None) -> Clip:
    """Ten frames a second of tissue that is brighter to the right, in which nerves are brighter still."""
    tissue = np.tile(np.linspace(0, 110, WIDTH), (HEIGHT, 1))
    images = [np.where(mask, 130, tissue).astype(np.uint8) for mask in shown]
    frames = [Frame(image, k, 0, pts_seconds=k / 10) for k, image in enumerate(images)]
    return Clip("made", frames, None, truths if truths is not None else [None] * len(frames))


def test_outlines_that_follow_the_nerve_neither_lag_nor_jump() -> None:
    frames, live = measure([BrightIsNerve()], [clip_of(moving(), moving())])
    assert (frames["outlined"], frames["switches"], frames["dice"], frames["found"]) == (1, 0, 1, 1)
    assert [frames[name] for name in ("area", "centroid", "error", "lag")] == pytest.approx([0] * 4)
    assert 0 < live["lag"] < 1  # the nerve moves in tissue at rest, so that the filter holds its edges back
    assert (frames["mode"], live["mode"], frames["frames"]) == ("frames", "live", 12)


def test_outlines_of_the_frame_before_lag_by_one_frame() -> None:
    clip, late = clip_of(moving(), moving()), [square(10), *moving()[:-1]]
    figures = Figures()
    truths = [Shape.of(mask) for mask in moving()]
    figures.add(clip, [Shape.of(mask) for mask in late], truths, truths)
    found = figures.to_json()
    assert found["lag"] == pytest.approx(1)
    assert found["error"] == pytest.approx(100 * STEP / WIDTH)


def test_an_outline_that_comes_and_goes_is_counted_and_the_filter_removes_it() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.bool_)
    flickering = [square(40) if k % 4 == 2 else nothing for k in range(13)]
    frames, live = measure([BrightIsNerve()], [clip_of(flickering, None)])
    assert frames["outlined"] == pytest.approx(3 / 13, abs=1e-4)
    assert frames["switches"] == pytest.approx(6 / 1.2, abs=1e-4)
    assert (live["outlined"], live["switches"]) == (0, 0)
    assert frames["dice"] is frames["error"] is None


def test_drops_keep_frames_with_their_truths() -> None:
    clip = phantom("sliding", 5, 0.5, nerve=None)
    kept = with_drops(clip, 5)
    assert 4 <= len(kept.frames) < len(clip.frames)
    for frame, truth in zip(kept.frames, kept.truths, strict=True):
        assert frame is clip.frames[frame.index]
        assert truth is clip.truths[frame.index]
