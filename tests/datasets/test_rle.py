"""The competition's run-length encoding: examples by hand, and there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamseg.datasets.rle import encode
from tests.datasets.rle import decode

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (["...", "..."], ""),
        (["#..", "..."], "1 1"),
        (["...", "#.."], "2 1"),  # down the column first
        ([".#.", "..."], "3 1"),
        (["...", "..#"], "6 1"),
        (["###", "###"], "1 6"),
        (["#.#", "#.#"], "1 2 5 2"),
        (["###", "..."], "1 1 3 1 5 1"),  # a line across the image is a run in each column
        ([".#.", "##."], "2 3"),  # a run goes on from the end of a column to the top of the next
    ],
)
def test_by_hand(rows, text):
    mask = np.array([[letter == "#" for letter in row] for row in rows])
    assert encode(mask) == text
    assert np.array_equal(decode(text, mask.shape), mask)


def test_the_definitions_own_example():
    """'1 3' is pixels 1, 2 and 3; '1 3 10 5' is 1, 2, 3, 10, 11, 12, 13 and 14."""
    flat = decode("1 3 10 5", (420, 580)).ravel(order="F")
    assert (np.flatnonzero(flat) + 1).tolist() == [1, 2, 3, 10, 11, 12, 13, 14]
    mask = np.zeros((420, 580), bool)
    mask[0, 579] = True  # the top of the last column comes after 579 columns of 420
    assert encode(mask) == f"{579 * 420 + 1} 1"


@settings(deadline=None)
@given(hnp.arrays(bool, shapes))
def test_there_and_back(mask):
    text = encode(mask)
    assert np.array_equal(decode(text, mask.shape), mask)
    numbers = [int(word) for word in text.split()]
    starts, lengths = numbers[::2], numbers[1::2]
    ends = [start + length for start, length in zip(starts, lengths, strict=True)]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))  # sorted, and none touch
    assert sum(lengths) == mask.sum()


@settings(deadline=None)
@given(shapes, st.data())
def test_back_and_there(shape, data):
    """Any text of separate runs in order comes out again."""
    size = shape[0] * shape[1]
    edges = sorted(data.draw(st.sets(st.integers(1, size + 1), max_size=size)))
    edges = edges[: len(edges) // 2 * 2]
    text = " ".join(f"{start} {end - start}" for start, end in zip(edges[::2], edges[1::2], strict=True))
    assert encode(decode(text, shape)) == text


def test_memory_order_does_not_matter():
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    assert encode(np.asfortranarray(mask)) == encode(mask) == encode(mask.T.copy().T)
