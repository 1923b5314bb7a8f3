from pathlib import Path

import pytest

from streamseg.benchmark.results import read_result, write_result
from streamseg.core.errors import DataError
from streamseg.reporting.formatting import table


def test_a_table_for_people() -> None:
    assert table(("net", "ms"), [("unet", 22.24), ("segnet", 1204.4), ("tiny", 0.1234), ("new", None)]) == [
        "| net | ms |",
        "|---|---|",
        "| unet | 22.2 |",
        "| segnet | 1204 |",
        "| tiny | 0.123 |",
        "| new | - |",
    ]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    json_path, text_path = write_result(tmp_path / "new" / "2026-11-22-x-engines", {"rows": [1]}, ["a", "b"])
    assert read_result(json_path) == {"rows": [1]}
    assert text_path.read_text() == "a\nb\n"
    assert read_result(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match="move it away"):
        read_result(path)
