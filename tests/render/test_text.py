import numpy as np
import pytest

from streamseg.render.text import fit_size, put_text, text_width

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def canvas():
    return np.zeros((60, 200, 3), np.uint8)


def test_text_is_drawn_on_its_baseline_and_returns_its_end():
    image = canvas()
    end = put_text(image, "HEN", 10, 40, 30, colour=WHITE, background=BLACK)
    rows, columns = np.nonzero(image[..., 0] > 128)
    assert rows.max() == pytest.approx(39, abs=1)
    assert rows.max() - rows.min() == pytest.approx(21, abs=2)
    assert 10 <= columns.min() <= 14
    assert columns.max() <= end == 10 + text_width("HEN", 30)


def test_digits_have_one_width():
    assert text_width("111.11", 20) == text_width("888.88", 20)
    left, right = canvas(), canvas()
    assert put_text(left, "1", 150, 40, 20, colour=WHITE, background=BLACK, right=True) == 150
    put_text(right, "8", 150, 40, 20, colour=WHITE, background=BLACK, right=True)
    assert not left[:, 151:].any()
    assert not right[:, 151:].any()


@pytest.mark.parametrize(("x", "baseline"), [(-5, 40), (190, 40), (50, 3), (50, 70), (-900, 30), (900, 900)])
def test_text_outside_the_canvas_is_cut_off(x, baseline):
    put_text(canvas(), "Wide text", x, baseline, 30, colour=WHITE, background=BLACK)


def test_bold_is_heavier_and_fit_size_finds_the_largest_size():
    thin, bold = canvas(), canvas()
    put_text(thin, "NERVE", 0, 40, 40, colour=WHITE, background=BLACK)
    put_text(bold, "NERVE", 0, 40, 40, colour=WHITE, background=BLACK, bold=True)
    assert bold.sum() > 1.1 * thin.sum()
    size = fit_size("CONFIDENCE", 90, 120, bold=True)
    assert text_width("CONFIDENCE", size, bold=True) <= 120 < text_width("CONFIDENCE", size + 1, bold=True)
    assert fit_size("CONFIDENCE", 90, 1) == 6


def test_empty_text_draws_nothing():
    image = canvas()
    assert put_text(image, "", 7, 30, 20, colour=WHITE, background=BLACK) == 7
    assert not image.any()
