"""The OOD detector: its features are finite for any image, and each catches what it is there for."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.core.errors import EngineError
from streamseg.phantom import render_still
from streamseg.segmentation import ood_detector as novelty

N = len(novelty.FEATURES)


def figures(image: np.ndarray) -> dict[str, float]:
    return dict(zip(novelty.FEATURES, novelty.features(image), strict=True))


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    return render_still(7, height=128, width=160).image


@given(st.integers(16, 40), st.integers(16, 40), st.integers(0, 255), st.integers(0, 255), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_features_are_finite_for_every_image(height, width, low, high, seed):
    low, high = sorted((low, high))
    image = np.random.default_rng(seed).integers(low, high + 1, (height, width)).astype(np.uint8)
    found = novelty.features(image)
    assert found.shape == (N,)
    assert np.isfinite(found).all()


def test_figures_move_as_their_names_say(still):
    plain = figures(still)
    assert figures(np.zeros_like(still))["lit"] == 0
    assert figures(np.full_like(still, 255))["saturated"] == 1
    assert figures(np.full_like(still, 90))["flat"] == 1
    assert figures(still)["upright_fine"] == pytest.approx(
        -figures(np.rot90(still).copy())["upright_fine"], abs=0.1
    )
    soft = figures(cv2.GaussianBlur(still, (0, 0), 3))
    assert soft["fine_to_medium"] < plain["fine_to_medium"] - 0.5
    turned = figures(still[::-1].copy())
    assert turned["depth_0"] == pytest.approx(plain["depth_5"], abs=0.1)
    fan = still.copy()
    fan[:30, :50] = fan[:30, -50:] = 0
    assert figures(fan)["lit_top_corners"] < plain["lit_top_corners"] - 0.25


def test_left_and_right_do_not_matter(still):
    mirrored = novelty.features(still[:, ::-1].copy())
    np.testing.assert_allclose(mirrored, novelty.features(still), atol=0.05)


def test_distance_is_measured_in_the_ellipsoid(still):
    vector = novelty.features(still)
    text = novelty.write_reference(vector, np.diag(np.full(N, 0.5)))
    assert novelty.distance(still, text) == pytest.approx(0, abs=1e-3)
    shifted = novelty.write_reference(vector + np.eye(N)[3] * 4, np.diag(np.full(N, 0.5)))
    assert novelty.distance(still, shifted) == pytest.approx(2, abs=1e-3)
    assert novelty.is_out_of_distribution(still, still, shifted)
    assert not novelty.is_out_of_distribution(still, still, text)


def test_a_strip_is_too_little_to_tell(still):
    assert novelty.distance(still[:15], "") == np.inf


def test_a_reference_of_other_figures_is_refused(still):
    with pytest.raises(EngineError, match="export it again"):
        novelty.distance(still, "1 2 3 4 5")


def test_colour_is_what_departs_from_the_tint(still):
    grey = cv2.cvtColor(still, cv2.COLOR_GRAY2BGR)
    assert novelty.colour_share(still) == novelty.colour_share(grey) == 0
    sepia = np.round(grey * np.array([0.55, 0.8, 1.0])).astype(np.uint8)
    assert novelty.colour_share(sepia) < novelty.COLOURED_SHARE
    flow = grey.copy()
    flow[40:60, 50:70] = (20, 40, 220)
    assert novelty.colour_share(flow) == pytest.approx(400 / still.size, rel=0.2)
    assert novelty.colour_share(np.zeros((1, 1, 3), np.uint8)) == 0


class TestAStream:
    """Judging the images of a stream, of which many hardly differ."""

    @pytest.fixture
    def judged(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The distances that were computed; of an image, its first pixel in tenths."""
        found: list[float] = []
        monkeypatch.setattr(
            novelty, "distance", lambda content, familiar: (found.append(content[0, 0] / 10), found[-1])[1]
        )
        return found

    def test_an_image_like_the_last_has_its_distance_for_less_than_a_tenth_of_a_second(
        self, judged: list[float]
    ) -> None:
        detector = novelty.OutOfDistributionDetector("")
        image = np.full((48, 64), 5, np.uint8)
        found = [detector.distance(image + np.uint8(k % 2), k * 25_000_000) for k in range(9)]
        assert found == [0.5] * 9
        assert len(judged) == 3

    @pytest.mark.parametrize("change", ["another image", "another size", "a step back", "later"])
    def test_any_change_is_judged_at_once(self, judged: list[float], change: str) -> None:
        detector = novelty.OutOfDistributionDetector("")
        image = np.full((48, 64), 5, np.uint8)
        assert detector.distance(image, 1_000_000_000) == 0.5
        at_ns = {"a step back": 900_000_000, "later": 1_100_000_000}.get(change, 1_001_000_000)
        following = {"another image": image + np.uint8(20), "another size": image[:40]}.get(change, image)
        assert detector.distance(following, at_ns) == following[0, 0] / 10
        assert len(judged) == 2

    def test_nothing_is_kept_near_the_limit(self, judged: list[float]) -> None:
        detector = novelty.OutOfDistributionDetector("")
        for k in range(5):
            detector.distance(np.full((48, 64), 10, np.uint8), k)
        assert len(judged) == 5
