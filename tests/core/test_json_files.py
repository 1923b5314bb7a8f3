"""Files of a report: whole or not at all."""

import json

import pytest

from streamseg.core.errors import DataError, SinkError
from streamseg.core.files import read_json, write_json, write_text


def test_json_comes_back_a_key_a_line(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, 2.5], "b": {"c": None}})
    assert read_json(path) == {"a": [1, 2.5], "b": {"c": None}}
    assert len(path.read_text().splitlines()) == 4
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_what_is_not_a_number_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


def test_none_where_there_is_no_file(tmp_path):
    assert read_json(tmp_path / "nothing.json") is None


@pytest.mark.parametrize("text", ['{"a": ', json.dumps([1]), ""])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json.*remove it"):
        read_json(path)


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        write_text(tmp_path / "file" / "report.md", "text")
