from fractions import Fraction

import numpy as np
import pytest

from streamseg.capture import open_source
from streamseg.capture.phantom import PhantomSource
from streamseg.core.errors import UsageError
from streamseg.core.types import Source

SMALL = "phantom:?frames=4&size=96x64"


def test_defaults():
    with PhantomSource.from_uri("phantom:") as source:
        info = source.info
    assert (info.width, info.height, info.frame_count) == (580, 420, 300)
    assert info.rate == 30
    assert info.time_base == Fraction(1, 30)
    assert info.region is None
    assert not source.live
    assert isinstance(source, Source)


def test_frames_come_in_order_with_exact_times():
    with open_source(SMALL + "&fps=30000/1001&seed=3") as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.pts_seconds for frame in frames] == [float(k * Fraction(1001, 30000)) for k in range(4)]
    assert all(frame.image.shape == (64, 96) and not frame.image.flags.writeable for frame in frames)
    assert all(frame.spacing_mm is not None and frame.spacing_mm[0] > 0 for frame in frames)
    assert np.all(np.diff([frame.captured_ns for frame in frames]) > 0)


def test_the_same_uri_gives_the_same_frames():
    first, second = (list(PhantomSource.from_uri(SMALL + "&seed=8")) for _ in range(2))
    other = list(PhantomSource.from_uri(SMALL + "&seed=9"))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0].image, other[0].image)


def test_truth_belongs_to_the_delivered_index():
    whole = PhantomSource.from_uri("phantom:?frames=90&size=128x96&nerve=always")
    later = PhantomSource.from_uri("phantom:?frames=90&size=128x96&nerve=always", start_seconds=2.0)
    assert later.info.frame_count == 30
    frame = next(iter(later))
    assert frame.index == 0
    assert frame.pts_seconds == 2.0
    assert whole.truth(60).any()
    assert np.array_equal(later.truth(0), whole.truth(60))


def test_nerve_never_has_no_truth():
    source = PhantomSource.from_uri(SMALL + "&nerve=never")
    assert not any(source.truth(index).any() for index in range(4))


def test_a_closed_source_delivers_nothing():
    source = PhantomSource.from_uri(SMALL)
    next(iter(source))
    source.close()
    source.close()
    assert list(source) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("seed=-1", "seed"),
        ("seed=x", "seed"),
        ("seed=", "seed"),
        ("frames=0", "frames"),
        ("frames=1e9", "frames"),
        ("fps=0", "fps"),
        ("fps=nan", "fps"),
        ("fps=1/0", "fps"),
        ("fps=1e999999999", "fps"),
        ("size=580", "size"),
        ("size=580x", "size"),
        ("size=-580x420", "size"),
        ("size=10x10", "size"),
        ("size=99999999999999999999x420", "size"),
        ("nerve=maybe", "nerve"),
        ("depth=4", "depth"),
        ("seed=1&seed=2", "seed"),
        ("frames", "frames"),
    ],
)
def test_bad_queries_name_the_key_in_one_line(query, named):
    with pytest.raises(UsageError, match=named) as caught:
        PhantomSource.from_uri(f"phantom:?{query}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["phantom:seed=3", "phantom:x?seed=3"])
def test_other_addresses_are_refused(uri):
    with pytest.raises(UsageError, match="phantom"):
        PhantomSource.from_uri(uri)


@pytest.mark.parametrize("start", [-1.0, float("nan"), 1000.0])
def test_impossible_starts_are_refused(start):
    with pytest.raises(UsageError):
        PhantomSource.from_uri(SMALL, start_seconds=start)
