import pytest

from streamseg.datasets import Dataset, split_last
from streamseg.datasets.reader import Entry
from streamseg.errors import DataError


def entries(subjects):
    return Dataset([Entry(str(n), None, None, subject) for n, subject in enumerate(subjects)])


def test_the_last_block_is_held_back():
    train, validation = split_last(entries([None] * 10), 0.3)
    assert [e.name for e in train.entries] == list("0123456")
    assert [e.name for e in validation.entries] == list("789")


def test_subjects_stay_whole():
    train, validation = split_last(entries("aaabbbbbcc"), 0.3)
    assert {e.subject for e in train.entries} == {"a"}
    assert {e.subject for e in validation.entries} == {"b", "c"}


@pytest.mark.parametrize(("subjects", "fraction"), [("aaaa", 0.5), ([None], 0.5), ([None] * 10, 0.0)])
def test_an_empty_part_is_refused(subjects, fraction):
    with pytest.raises(DataError, match="one part would be empty"):
        split_last(entries(subjects), fraction)
